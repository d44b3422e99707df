"""The TFDS builders: tiny files in the public formats, and a download over a local server."""

import gzip
import http.server
import json
import subprocess
import sys
import threading
import types
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.datasets import (
    DATASETS,
    build_dataset,
    export_dataset,
    get_builder_class,
    iter_event_batches,
)
from recjax.data.datasets.log_blocks import decode_blocks, encode_block
from recjax.errors import UserError

RATINGS = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n"
MOVIES = '1193::Léon, the "Pro" (1994)::Crime|Drama\n661::James (1996)::Children\'s\n'


def rows_of(builder) -> list[dict]:
    return [row for batch in iter_event_batches(builder) for row in batch.to_pylist()]


def write_movielens(folder) -> None:
    folder.mkdir(parents=True)
    (folder / "ratings.dat").write_text(RATINGS)
    (folder / "movies.dat").write_bytes(MOVIES.encode("latin-1"))


def zip_movielens(path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", RATINGS)
        archive.writestr("ml-1m/movies.dat", MOVIES.encode("latin-1"))


def check_movielens(builder, has_catalogue: bool = True) -> None:
    assert rows_of(builder) == [
        {"user_id": user, "item_id": item, "action": "rate", "timestamp": time, "rating": rating}
        for user, item, rating, time in (
            ("1", "1193", 5.0, 978300760),
            ("1", "661", 3.0, 978302109),
            ("2", "1193", 4.0, 978298413),
        )
    ]
    assert builder.catalogue_path.exists() == has_catalogue
    if has_catalogue:
        assert pq.read_table(builder.catalogue_path).to_pylist() == [
            {"item_id": "1193", "title": 'Léon, the "Pro" (1994)', "category": "Crime"},
            {"item_id": "661", "title": "James (1996)", "category": "Children's"},
        ]


@pytest.mark.parametrize("kind", ["zip", "folder", "file", "gzip"])
def test_movielens_builds_from_disk(tmp_path, kind):
    write_movielens(tmp_path / "ml-1m")
    path = {"folder": tmp_path / "ml-1m", "file": tmp_path / "ml-1m" / "ratings.dat"}.get(kind)
    if kind == "zip":
        path = tmp_path / "ml-1m.zip"
        zip_movielens(path)
    if kind == "gzip":
        path = tmp_path / "ratings.dat.gz"
        path.write_bytes(gzip.compress(RATINGS.encode()))
    builder = build_dataset("movielens_1m", tmp_path / "data", path)
    check_movielens(builder, has_catalogue=kind in ("zip", "folder"))


def test_movielens_downloads_from_its_url(tmp_path, monkeypatch, capfd):
    zip_movielens(tmp_path / "ml-1m.zip")
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            requested.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_address[1]}/ml-1m.zip"
    monkeypatch.setattr(get_builder_class("movielens_1m"), "URL", url)
    try:
        builder = build_dataset("movielens_1m", tmp_path / "data")
        check_movielens(builder)
        assert requested == ["/ml-1m.zip"]
        build_dataset("movielens_1m", tmp_path / "data")  # found prepared
        assert requested == ["/ml-1m.zip"]
        monkeypatch.setattr(get_builder_class("movielens_1m"), "URL", url + ".gone")
        with pytest.raises(UserError, match="cannot download movielens_1m from .*set data.path"):
            build_dataset("movielens_1m", tmp_path / "other")
    finally:
        server.shutdown()
        server.server_close()
    assert capfd.readouterr().out == ""


REVIEWS = [
    {"reviewerID": "A1", "asin": "B00005N7P0", "overall": 5.0, "unixReviewTime": 1370000000},
    {"reviewerID": "A2", "asin": "7806397051", "overall": 1.0, "unixReviewTime": 1380000000},
]
REVIEW_ROWS = [
    {
        "user_id": review["reviewerID"],
        "item_id": review["asin"],
        "action": "review",
        "timestamp": review["unixReviewTime"],
        "rating": review["overall"],
    }
    for review in REVIEWS
]


def review_files() -> dict[str, str]:
    lines = "".join(json.dumps(r | {"summary": "ok", "reviewText": "x,y"}) + "\n" for r in REVIEWS)
    users = "A1,B00005N7P0,5.0,1370000000\nA2,7806397051,1.0,1380000000\n"
    items = "B00005N7P0,A1,5.0,1370000000\n7806397051,A2,1.0,1380000000\n"
    newest = (
        "user_id,parent_asin,rating,timestamp\nA1,B00005N7P0,5.0,1370000000123\n"
        "A2,7806397051,1.0,1380000000456\n"
    )
    return {"json": lines, "csv_2014": users, "csv_2018": items, "csv_2023": newest}


@pytest.mark.parametrize("kind", sorted(review_files()))
@pytest.mark.parametrize("zipped", [True, False])
def test_amazon_builds_from_every_format(tmp_path, kind, zipped):
    text = review_files()[kind].encode()
    path = tmp_path / "reviews"
    path.write_bytes(gzip.compress(text) if zipped else text)
    builder = build_dataset("amazon_reviews/Beauty", tmp_path / "data", path)
    assert rows_of(builder) == REVIEW_ROWS
    assert not builder.catalogue_path.exists()


def test_amazon_config_decides_url_and_file(tmp_path):
    builder_class = get_builder_class("amazon_reviews")
    toys = builder_class(data_dir=str(tmp_path), config="Toys_and_Games")
    assert toys.url.endswith("/categoryFiles/reviews_Toys_and_Games_5.json.gz")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "reviews_Beauty_5.json").write_text(review_files()["json"])
    assert rows_of(build_dataset("amazon_reviews/Beauty", tmp_path / "d", tmp_path / "in"))
    with pytest.raises(UserError, match="no reviews_Baby_5.json or"):
        build_dataset("amazon_reviews/Baby", tmp_path / "d", tmp_path / "in")
    with pytest.raises(UserError, match="has no config 'Beautyy'"):
        build_dataset("amazon_reviews/Beautyy", tmp_path / "d", tmp_path / "in")
    with pytest.raises(UserError, match="needs a config, e.g. 'amazon_reviews/Amazon_Instant"):
        build_dataset("amazon_reviews", tmp_path / "d", tmp_path / "in")


def test_amazon_bad_rows_are_named(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(review_files()["json"] + '{"asin": "B1"}\n')
    with pytest.raises(UserError, match=r"bad.json: row 3 is no review: KeyError\('reviewerID'"):
        build_dataset("amazon_reviews/Beauty", tmp_path / "data", path)
    path.write_text("a,b,c\n")
    with pytest.raises(UserError, match="row 1 has 3 fields"):
        build_dataset("amazon_reviews/Beauty", tmp_path / "data", path)
    path.write_text("A1,B00005N7P0,5.0,1370000000\nA1,B00005N7P0,five,1370000000\n")
    with pytest.raises(UserError, match="bad.json: .*five"):
        build_dataset("amazon_reviews/Beauty", tmp_path / "data", path)
    assert not list((tmp_path / "data").rglob("*array_record*"))


BEHAVIOUR = (
    "1,10,7,pv,1511544070\n1,11,8,buy,1511561733\n2,10,7,fav,1511572885\n2,12,9,cart,1511572886\n"
)


@pytest.mark.parametrize("kind", ["csv", "zip"])
def test_taobao_builds_from_disk(tmp_path, kind):
    path = tmp_path / f"UserBehavior.{kind}"
    if kind == "csv":
        path.write_text(BEHAVIOUR)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("UserBehavior.csv", BEHAVIOUR)
    builder = build_dataset("taobao", tmp_path / "data", path)
    rows = rows_of(builder)
    assert [r["action"] for r in rows] == ["view", "buy", "favourite", "cart"]
    assert rows[1] == {"user_id": "1", "item_id": "11", "action": "buy", "timestamp": 1511561733}
    assert pq.read_table(builder.catalogue_path).to_pydict() == {
        "item_id": ["10", "11", "12"],
        "category": ["7", "8", "9"],
    }


def test_taobao_unknown_behaviour_is_named(tmp_path):
    (tmp_path / "u.csv").write_text(BEHAVIOUR + "3,1,1,look,1511572886\n")
    with pytest.raises(UserError, match="row 5, column 4: unknown behaviour 'look'; there are pv"):
        build_dataset("taobao", tmp_path / "data", tmp_path / "u.csv")


INVOICES = {
    "InvoiceNo": ["536365", "C536366", "536367", "536368", "536369", "536370"],
    "StockCode": ["85123A", "85123A", "POST", "85123A", "22752", "22752"],
    "Description": ["WHITE HEART, HOLDER", "x", "POSTAGE", " £ HOLDER ", "BOXES", "BOXES"],
    "Quantity": [6, -1, 1, 2, 1, 3],
    "InvoiceDate": ["12/1/2010 8:26"] * 5 + ["12/13/2010 8:26"],
    "UnitPrice": [2.5, 2.5, 18.0, 2.75, 7.5, 8.0],
    "CustomerID": ["17850", "17850", "17850", "13047", None, "13047"],
    "Country": ["United Kingdom"] * 6,
}
PURCHASES = [
    ("17850", "85123A", 1291191960, "536365", 2.5),
    ("13047", "85123A", 1291191960, "536368", 2.75),
    ("13047", "22752", 1292228760, "536370", 8.0),
]


def csv_of(columns: dict) -> str:
    lines = [",".join(columns)]
    for row in zip(*columns.values(), strict=True):
        cells = ["" if v is None else f'"{v}"' if "," in str(v) else str(v) for v in row]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def check_retail(builder) -> None:
    names = ("user_id", "item_id", "timestamp", "session_id", "price")
    assert [tuple(r[n] for n in names) for r in rows_of(builder)] == PURCHASES
    assert pq.read_table(builder.catalogue_path).to_pydict() == {
        "item_id": ["22752", "85123A"],
        "title": ["BOXES", "£ HOLDER"],
        "price": [8.0, 2.75],
    }


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_online_retail_builds_from_csv(tmp_path, encoding):
    path = tmp_path / "retail.csv"
    path.write_bytes(csv_of(INVOICES).encode(encoding))
    check_retail(build_dataset("online_retail", tmp_path / "data", path))


def test_online_retail_builds_from_parquet(tmp_path):
    columns = dict(INVOICES)
    times = ["2010-12-01T08:26"] * 5 + ["2010-12-13T08:26"]
    columns["InvoiceDate"] = pa.array(np.array(times, "datetime64[us]"))
    columns["CustomerID"] = pa.array([17850, 17850, 17850, 13047, None, 13047], pa.float64())
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "in" / "invoices.parquet")
    check_retail(build_dataset("online_retail", tmp_path / "data", tmp_path / "in"))


def test_online_retail_workbook_says_what_to_install_or_reads(tmp_path, monkeypatch):
    workbook = tmp_path / "Online Retail.xlsx"
    with zipfile.ZipFile(workbook, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    path = tmp_path / "online+retail.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(workbook, "Online Retail.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    for given in (workbook, path):
        with pytest.raises(UserError, match="pip install openpyxl"):
            build_dataset("online_retail", tmp_path / "data", given)

    rows = [tuple(INVOICES), *zip(*INVOICES.values(), strict=True)]
    sheet = types.SimpleNamespace(iter_rows=lambda values_only: iter(rows))
    load = lambda stream, read_only: types.SimpleNamespace(active=sheet)  # noqa: E731
    monkeypatch.setitem(sys.modules, "openpyxl", types.SimpleNamespace(load_workbook=load))
    check_retail(build_dataset("online_retail", tmp_path / "data", path))


def test_online_retail_missing_column_is_named(tmp_path):
    columns = {k: v for k, v in INVOICES.items() if k != "UnitPrice"}
    (tmp_path / "r.csv").write_text(csv_of(columns))
    with pytest.raises(UserError, match="r.csv: .*UnitPrice"):
        build_dataset("online_retail", tmp_path / "data", tmp_path / "r.csv")


def test_simulated_shop_reads_back_its_own_log(tmp_path):
    from recjax.data.simulated_shop import ShopConfig, SimulatedShop

    config = ShopConfig(num_users=120, num_items=40, num_days=40, dirty_share=0.05)
    builder = build_dataset("simulated_shop", tmp_path, shop=config)
    expected = pa.Table.from_batches(SimulatedShop(config).event_batches())
    got = pa.Table.from_batches(iter_event_batches(builder))
    assert got.select(expected.column_names).equals(expected)
    assert got.num_rows > 1024  # several blocks
    assert pq.read_table(builder.catalogue_path).num_rows == 40
    other = ShopConfig(num_users=61, num_items=40, num_days=10)
    with pytest.raises(UserError, match="was built from .*num_users"):
        build_dataset("simulated_shop", tmp_path, shop=other)


def test_export_writes_parquet_for_the_prepare_stage(tmp_path):
    write_movielens(tmp_path / "ml-1m")
    builder = build_dataset("movielens_1m", tmp_path / "data", tmp_path / "ml-1m")
    paths = export_dataset(builder, tmp_path / "log")
    assert sorted(paths) == ["catalogue", "events"]
    assert pq.read_table(paths["events"]).to_pylist() == rows_of(builder)
    assert pq.read_table(paths["catalogue"]).num_rows == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "log", "ml-1m"]


def test_nulls_survive_the_blocks(tmp_path):
    columns = ("user_id", "item_id", "action", "timestamp", "rating")
    rows = [{"user_id": None, "item_id": "i", "action": "a", "timestamp": None, "rating": None}]
    rows += [{"user_id": "u", "item_id": None, "action": "b", "timestamp": 5, "rating": 0.0}]
    batch = pa.RecordBatch.from_pylist(rows)
    assert decode_blocks([encode_block(batch, columns)] * 2).to_pylist() == rows * 2


def test_every_builder_knows_where_it_comes_from(tmp_path):
    for name in DATASETS:
        builder_class = get_builder_class(name)
        assert builder_class.name == name and builder_class.DESCRIPTION
        if name != "simulated_shop":
            config = "Beauty" if name == "amazon_reviews" else None
            builder = builder_class(data_dir=str(tmp_path), config=config)
            assert builder.url.startswith("https://")
            assert builder.info.homepage.startswith("https://") and builder.info.citation


def test_wrong_names_and_paths_are_explained(tmp_path):
    with pytest.raises(UserError, match="unknown data set 'movielens'; there are .*movielens_1m"):
        build_dataset("movielens", tmp_path)
    with pytest.raises(UserError, match="nowhere is missing"):
        build_dataset("taobao", tmp_path, tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no config"):
        build_dataset("taobao/small", tmp_path)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="empty.csv"):
        build_dataset("taobao", tmp_path / "data", tmp_path / "empty.csv")
    write_movielens(tmp_path / "ml-1m")
    build_dataset("movielens_1m", tmp_path / "data", tmp_path / "ml-1m")
    with pytest.raises(UserError, match="was built from .*ml-1m, not from .*else"):
        build_dataset("movielens_1m", tmp_path / "data", tmp_path / "else")


def test_nothing_imports_tensorflow_or_torch(tmp_path):
    write_movielens(tmp_path / "ml-1m")
    code = f"""
import sys
import numpy as np
from recjax.data import examples, items, loading, text, vocabulary
from recjax.data.datasets import build_dataset, iter_event_batches
builder = build_dataset("movielens_1m", {str(tmp_path / "data")!r}, {str(tmp_path / "ml-1m")!r})
assert sum(b.num_rows for b in iter_event_batches(builder)) == 3
one = {{"user": 0, "items": [5, 6], "actions": [0, 1], "times": [1, 2], "sessions": [0, 0],
        "weight": 1.0, "source": 1}}
examples.write_sequences({str(tmp_path / "s")!r}, [one])
source = examples.open_examples({str(tmp_path / "s")!r}, "sequences", "train")
batches = loading.TrainBatches([[source]], batch_size=2, max_len=4, num_gap_bins=8, seeds=[0])
assert next(iter(loading.prefetch(batches, 2)))["items"].shape == (1, 2, 4)
text.train_wordpiece(["a title"], 20).save({str(tmp_path / "t")!r})
text.load_tokenizer({str(tmp_path / "t")!r})
import transformers
transformers.AutoTokenizer.from_pretrained({str(tmp_path / "t")!r})
print([name for name in ("tensorflow", "torch") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
