import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.catalogue import read_catalogue
from recjax.data.quarantine import Quarantine
from recjax.errors import UserError

HEADER = "item_id,title,category,brand,price"


def read(engine, settings):
    quarantine = Quarantine(engine, settings.engine.max_quarantine_share)
    table = read_catalogue(engine, settings.catalogue, quarantine)
    quarantine.write(engine.scratch / "bad.parquet")
    bad = pq.read_table(engine.scratch / "bad.parquet").to_pylist()
    return table, [(row["row"], row["reason"]) for row in bad]


def test_no_path_means_no_catalogue(engine, make_settings) -> None:
    assert read(engine, make_settings()) == (None, [])


def test_rows_keep_their_order_and_other_columns_their_name(
    engine, make_settings, write_lines
) -> None:
    lines = [HEADER + ",colour", 'b,"Tea, green",Food > Tea,Leaf,4.5,red', "a,Pot,,,,"]
    path = write_lines("c.csv", lines)
    table, bad = read(engine, make_settings("", {"data.catalogue_path": str(path)}))
    assert bad == [] and table.to_pylist() == [
        {"item_id": "b", "title": "Tea, green", "category": "Food > Tea", "brand": "Leaf",
         "price": 4.5, "colour": "red"},
        {"item_id": "a", "title": "Pot", "category": None, "brand": None, "price": None,
         "colour": None},
    ]  # fmt: skip
    assert table.schema.field("price").type == pa.float32()


def test_bad_rows_go_to_quarantine(engine, make_settings, write_lines) -> None:
    lines = [HEADER, *(f"i{i},T,,,1" for i in range(20)), "i3,Again,,,1", ",T,,,", "x,T,,,cheap"]
    changes = {"data.catalogue_path": str(write_lines("c.csv", lines))}
    table, bad = read(engine, make_settings("", changes))
    assert len(table) == 20 and set(table["title"].to_pylist()) == {"T"}
    assert sorted(bad) == [
        (21, "item_id was seen in an earlier row"),
        (22, "item_id is missing"),
        (23, "price is not a number"),
    ]


def test_lists_become_paths_and_vectors(engine, make_settings, tmp_path) -> None:
    table = {"item_id": [1, 2], "title": ["花茶", "x"], "path": [["Food", "Tea"], None]}
    pq.write_table(pa.table(table | {"v": [[1.0, 2.0], None]}), tmp_path / "c.parquet")
    changes = {"data.catalogue_path": str(tmp_path / "c.parquet")}
    changes |= {"data.catalogue_columns.category": "path", "data.catalogue_columns.brand": ""}
    changes |= {"data.catalogue_columns.price": "", "data.catalogue_columns.image_vector": "v"}
    found, _ = read(engine, make_settings("", changes))
    assert found.to_pylist() == [
        {"item_id": "1", "title": "花茶", "category": "Food > Tea", "image_vector": [1.0, 2.0]},
        {"item_id": "2", "title": "x", "category": None, "image_vector": None},
    ]


@pytest.mark.parametrize(
    ("lines", "changes", "words"),
    [
        (["item_id,name,category,brand,price", "1,a,b,c,2"], {},
         ["c.csv", "title", "catalogue_columns.title=''", "name"]),
        ([HEADER, "1,,b,c,2"], {}, ["c.csv", "titles are empty", "title"]),
        ([HEADER, "1,a,b,c,2"], {"data.catalogue_columns.item_id": "sku"}, ["'sku'", "item_id"]),
        ([HEADER, "1,a,b,c,2"], {"data.catalogue_columns.item_id": ""}, ["item_id is ''"]),
        ([HEADER, "1,a,b,c,2"], {"data.catalogue_columns.brand": "maker"}, ["'maker'", "brand"]),
        ([HEADER, "1,a,b,c,?", "2,a,b,c,?"], {}, ["2 of 2", "price is not a number", "row 1"]),
    ],
)  # fmt: skip
def test_wrong_catalogue_is_told(engine, make_settings, write_lines, lines, changes, words) -> None:
    changes = changes | {"data.catalogue_path": str(write_lines("c.csv", lines))}
    with pytest.raises(UserError) as caught:
        read(engine, make_settings("", changes))
    assert all(word in str(caught.value) for word in words), caught.value


def test_catalogue_says_it_has_no_title(engine, make_settings, write_lines) -> None:
    path = write_lines("c.csv", ["item_id,category,brand,price", "1,b,c,2"])
    changes = {"data.catalogue_path": str(path), "data.catalogue_columns.title": ""}
    assert "title" not in read(engine, make_settings("", changes))[0].column_names
