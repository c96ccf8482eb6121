"""The examples of batch tasks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.test_examples import number, run


def test_the_dag_prints_the_payloads_of_both_sinks_in_order(tmp_path: Path) -> None:
    text = run("batch_dag.py", cwd=tmp_path)
    assert text.startswith(
        "sum     batch 0  [29, 52]\nsquare  batch 0  [25, 36]\nsum     batch 1  [85, 128]\nsquare  batch 1  [49, 64]\n"
    )
    assert "nothing failed, nothing dropped" in text


def test_pi_is_within_four_standard_deviations(tmp_path: Path) -> None:
    text = run("monte_carlo_pi.py", "--seeds", "60", "--darts", "2000", "--workers", "2", cwd=tmp_path)
    assert number(r"([\d,]+) darts", text) == 120_000
    found = re.search(r"about 3\.[01]\d+, which is (\d+\.\d) standard", text)
    assert found
    assert float(found[1]) < 4


def test_a_mean_goes_on_where_it_stopped_and_its_noise_falls(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    texts = [
        run("streaming_mean.py", "mean.npy", "--images", images, "--workers", "2", cwd=tmp_path)
        for images in ("50", "200")
    ]
    assert [number(r"(\d+) images are in the mean already", text) for text in texts] == [0, 50]
    assert [number(r"(\d+) images are in it now", text) for text in texts] == [50, 200]
    images = [np.random.default_rng(n).normal(0, 50, (128, 128)) for n in range(200)]
    expected = np.mean(images, axis=0) + np.add.outer(np.arange(128), np.arange(128))
    assert np.allclose(np.load(tmp_path / "mean.npy"), expected)


def test_every_image_of_a_folder_gets_a_thumbnail_and_a_bad_file_is_told(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(9):
        image.new("RGB", (300 + n, 200), (20 * n, 0, 90)).save(folder / f"picture_{n}.png")
    (folder / "picture_9.png").write_text("no picture", "utf-8")
    (folder / "notes.txt").write_text("notes", "utf-8")
    text = run("thumbnails.py", "pictures", "small", "--size", "60", "--workers", "2", cwd=tmp_path)
    assert "9 thumbnails of 10 files" in text
    assert re.search(r"picture_9\.png +no picture: UnidentifiedImageError", text)
    names = re.findall(r"^picture_(\d)\.png", text, re.MULTILINE)
    assert names == sorted(names)
    sizes = []
    for path in (tmp_path / "small").iterdir():
        with image.open(path) as small:
            sizes.append(small.size)
    assert len(sizes) == 9
    assert all(width == 60 and 38 <= height <= 40 for width, height in sizes)
