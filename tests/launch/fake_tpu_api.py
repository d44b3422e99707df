"""A TPU service on loopback, as far as gcloud asks: nodes and queued resources, ready at once."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATH = re.compile(r"/v2\w*/(projects/[^/]+/locations/[^/]+)/(\w+)(?:/([^/:?]+))?(:\w+)?")


class TpuApi:
    """What exists, and the bodies of all requests that made it."""

    def __init__(self, num_hosts: int) -> None:
        self.num_hosts = num_hosts
        self.tables: dict[str, dict[str, Any]] = {"nodes": {}, "queuedResources": {}}
        self.bodies: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, query: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path.startswith("/compute/v1/projects/"):  # which keys the project hands out
            return 200, {"name": "demo", "commonInstanceMetadata": {"items": []}}
        found = _PATH.match(path)
        if not found or found[4]:
            return 404, {"error": {"code": 404, "message": "not here", "status": "NOT_FOUND"}}
        parent, table, name, _ = found.groups()
        if table == "operations":
            return 200, {"name": f"{parent}/operations/{name}", "done": True, "response": {}}
        if table == "acceleratorTypes":
            return 200, {"acceleratorTypes": []}
        things = self.tables[table]
        if method == "POST":
            name = re.search(r"(?:nodeId|queuedResourceId)=([\w-]+)", query)[1]
            return self.create(parent, table, name, body)
        if name is None:
            return 200, {table: list(things.values())}
        if name not in things:
            message = f"Resource '{parent}/{table}/{name}' was not found"
            return 404, {"error": {"code": 404, "message": message, "status": "NOT_FOUND"}}
        if method == "DELETE":
            self.delete(table, name)
            return 200, {"name": f"{parent}/operations/op", "done": True, "response": {}}
        return 200, things[name]

    def create(self, parent: str, table: str, name: str, body: Any) -> tuple[int, Any]:
        self.bodies.append(body)
        if name in self.tables[table]:
            message = f"Resource '{parent}/{table}/{name}' already exists"
            return 409, {"error": {"code": 409, "message": message, "status": "ALREADY_EXISTS"}}
        if table == "nodes":
            self.add_node(parent, name, body)
        else:
            made = {**body, "name": f"{parent}/{table}/{name}", "state": {"state": "ACTIVE"}}
            self.tables[table][name] = made
            for spec in body["tpu"]["nodeSpec"]:
                count = spec.get("multisliceParams", {}).get("nodeCount")
                prefix = spec.get("multisliceParams", {}).get("nodeIdPrefix")
                names = [f"{prefix}-{i}" for i in range(int(count))] if count else [spec["nodeId"]]
                for node in names:
                    self.add_node(parent, node, {**spec["node"], "queuedResource": made["name"]})
        return 200, {"name": f"{parent}/operations/op", "done": True, "response": {}}

    def add_node(self, parent: str, name: str, body: dict[str, Any]) -> None:
        hosts = [
            {"ipAddress": f"10.0.0.{i}", "accessConfig": {"externalIp": f"10.1.{name}.{i}"}}
            for i in range(self.num_hosts)
        ]
        facts = {"state": "READY", "health": "HEALTHY", "networkEndpoints": hosts}
        self.tables["nodes"][name] = {**body, **facts, "name": f"{parent}/nodes/{name}"}

    def delete(self, table: str, name: str) -> None:
        made = self.tables[table].pop(name)
        for spec in made.get("tpu", {}).get("nodeSpec", ()):
            prefix = spec.get("nodeId") or spec["multisliceParams"]["nodeIdPrefix"]
            for node in [n for n in self.tables["nodes"] if re.fullmatch(rf"{prefix}(-\d)?", n)]:
                del self.tables["nodes"][node]


@contextmanager
def serve(api: TpuApi) -> Iterator[str]:
    """Yields the address of the service."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            path, _, query = self.path.partition("?")
            code, answer = api.answer(self.command, path, query, body)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PATCH = handle_any

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
