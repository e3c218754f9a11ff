import shutil

from berg.resources import free_disk_bytes, show_bytes


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or usage)
    assert free_disk_bytes(tmp_path / "not" / "yet" / "there") == usage.free
    assert asked == [tmp_path]


def test_bytes_are_read_by_people():
    assert [show_bytes(n) for n in (0, 999, 1000, 999_949, 2.5e9, 1.5e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.9 kB",
        "2.5 GB",
        "1,500.0 TB",
    ]
