"""Every gcloud line, as pure functions from a spec to a list of arguments. No shell, no I/O.

`all_commands` is what `plan` prints and what the golden files hold; the verbs run the same lines.
"""

from collections.abc import Mapping

from launch.spec import Spec

Command = list[str]

_SCOPES = "--scopes=https://www.googleapis.com/auth/cloud-platform"
REMOTE = ".recjax/current/launch/remote"  # below a worker's home


def create(spec: Spec, zone: str, labels: Mapping[str, str]) -> Command:
    """Asks for the TPU: a queued resource, or a VM at once where `mode` is direct."""
    if spec.mode == "direct":
        return [
            *_tpus("tpu-vm"),
            *("create", spec.name, *_where(spec, zone)),
            f"--accelerator-type={spec.hardware.type}",
            f"--version={runtime_version(spec)}",
            *_capacity(spec),
            *_machine(spec, labels),
        ]
    return [
        *_tpus("queued-resources", alpha=spec.capacity == "flex"),
        *("create", spec.name, *_where(spec, zone)),
        *_node_names(spec),
        f"--accelerator-type={spec.hardware.type}",
        f"--runtime-version={runtime_version(spec)}",
        f"--valid-until-duration={round(spec.max_wait_hours * 3600)}s",
        *_capacity(spec),
        *_machine(spec, labels),
    ]


def describe(spec: Spec, zone: str) -> Command:
    """Asks for the state of what `create` made."""
    kind = "queued-resources" if spec.mode == "queued" else "tpu-vm"
    return [*_tpus(kind), "describe", spec.name, *_where(spec, zone), "--format=json"]


def describe_node(spec: Spec, zone: str, node: str) -> Command:
    """Asks for state, health and addresses of one TPU VM."""
    return [*_tpus("tpu-vm"), "describe", node, *_where(spec, zone), "--format=json"]


def delete(spec: Spec, zone: str) -> Command:
    """Deletes what `create` made, and with a queued resource its TPU VMs."""
    if spec.mode == "queued":
        return delete_queued(spec, zone, spec.name)
    return delete_node(spec, zone, spec.name)


def delete_queued(spec: Spec, zone: str, name: str) -> Command:
    """Deletes a queued resource and its TPU VMs."""
    words = ("--quiet", "--force", "--async")
    return [*_tpus("queued-resources"), "delete", name, *_where(spec, zone), *words]


def delete_node(spec: Spec, zone: str, name: str) -> Command:
    """Deletes a TPU VM."""
    return [*_tpus("tpu-vm"), "delete", name, *_where(spec, zone), "--quiet", "--async"]


def list_queued(spec: Spec, zone: str) -> Command:
    """Lists the queued resources of a zone."""
    return [*_tpus("queued-resources"), "list", *_where(spec, zone), "--format=json"]


def list_nodes(spec: Spec, zone: str) -> Command:
    """Lists the TPU VMs of a zone."""
    return [*_tpus("tpu-vm"), "list", *_where(spec, zone), "--format=json"]


def list_types(spec: Spec, zone: str) -> Command:
    """Lists what a zone offers of the accelerator type."""
    kind = f"--filter=type:{spec.hardware.type}"
    return [*_tpus("accelerator-types"), "list", *_where(spec, zone), kind, "--format=json"]


def ssh(spec: Spec, zone: str, node: str, worker: int, script: str) -> Command:
    """Runs a script on one worker.

    One worker a call: with several, gcloud's exit code cannot be trusted. A script must never end
    with 255, which gcloud takes for a failed connection and runs the script again, ten times.
    """
    return [*_contact(spec, "ssh", zone, worker, node), f"--command={script}"]


def send(spec: Spec, zone: str, node: str, worker: int, source: str, target: str) -> Command:
    """Copies a file to one worker; `target` is below its home."""
    return _contact(spec, "scp", zone, worker, source, f"{node}:{target}")


def fetch(spec: Spec, zone: str, source: str, target: str) -> Command:
    """Copies a folder from the first worker."""
    words = _contact(spec, "scp", zone, 0, f"{spec.nodes[0]}:{source}", target)
    return [*words, "--recurse"]


def storage_cat(url: str) -> Command:
    """Reads an object of Cloud Storage."""
    return ["gcloud", "storage", "cat", url]


def checks(spec: Spec) -> dict[str, Command]:
    """What `doctor` asks, by subject."""
    project = [f"--project={spec.project}"] if spec.project else []
    asked = {
        "version": ["gcloud", "version", "--format=json"],
        "account": ["gcloud", "auth", "list", "--filter=status:ACTIVE", "--format=value(account)"],
        "project": ["gcloud", "config", "get-value", "project"],
        "apis": [
            "gcloud",
            "services",
            "list",
            *project,
            "--format=value(config.name)",
            "--enabled",
        ],
    }
    if spec.bucket:
        url = f"gs://{spec.bucket}"
        asked["bucket"] = ["gcloud", "storage", "buckets", "describe", url, "--format=json"]
    return asked | {f"zone {zone}": list_types(spec, zone) for zone in spec.zones}


def _tpus(kind: str, alpha: bool = False) -> Command:
    return ["gcloud", *(["alpha"] if alpha else []), "compute", "tpus", kind]


def _where(spec: Spec, zone: str) -> Command:
    return [f"--zone={zone}", *([f"--project={spec.project}"] if spec.project else [])]


def _contact(spec: Spec, verb: str, zone: str, worker: int, *words: str) -> Command:
    through = ["--tunnel-through-iap"] if spec.iap else []  # alpha only
    if spec.internal_ips and not spec.iap:
        through = ["--internal-ip"]
    start = [*_tpus("tpu-vm", alpha=spec.iap), verb, *words]
    return [*start, *_where(spec, zone), f"--worker={worker}", *through, "--quiet"]


def _node_names(spec: Spec) -> Command:
    if spec.slices == 1:
        return [f"--node-id={spec.name}"]
    return [f"--node-count={spec.slices}", f"--node-prefix={spec.name}"]


def runtime_version(spec: Spec) -> str:
    """Returns the image of the VMs; with another generation's, JAX finds no devices."""
    return spec.runtime_version or spec.hardware.generation.runtime_version


def _capacity(spec: Spec) -> Command:
    limit = f"--max-run-duration={round(spec.max_hours * 3600)}s"
    return {
        "on_demand": [],
        "spot": ["--spot"],
        "reserved": ["--reserved"],
        "flex": ["--provisioning-model=flex-start", limit],
    }[spec.capacity]


def _machine(spec: Spec, labels: Mapping[str, str]) -> Command:
    """Network, rights and labels of the VMs."""
    words = [f"--{name}={value}" for name, value in _network(spec).items() if value]
    words += ["--internal-ips"] if spec.internal_ips else []
    words += [f"--service-account={spec.service_account}"] if spec.service_account else [_SCOPES]
    every = {**spec.labels, **labels}
    return [*words, "--labels=" + ",".join(f"{key}={value}" for key, value in every.items())]


def _network(spec: Spec) -> dict[str, str]:
    return {"network": spec.network, "subnetwork": spec.subnetwork}
