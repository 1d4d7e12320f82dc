"""Data sets are read from the folders in which they are published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from zgs_ros.evaluation.datasets import DatasetError, FirstSamples, open_published
from zgs_ros.evaluation.datasets.base import Sample, parse_category, regions_of_classes
from zgs_ros.evaluation.datasets.masks import MaskDataset, folder_dataset, read_class_list
from zgs_ros.evaluation.datasets.published import CONTEXT_CLASSES, VOC_CLASSES
from zgs_ros.evaluation.datasets.synthetic import FIRST_SEED, SyntheticDataset
from zgs_ros.evaluation.metrics import BACKGROUND, OTHER, VOID
from zgs_ros.labeling.vocabulary import load_vocabulary
from zgs_ros.synthetic.catalogue import HELD_OUT_KINDS, KINDS

SIZE = (3, 4)
IMAGE, MASK = "images/kitchen/a.png", "masks/kitchen/a.png"


def write_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, rows: list[list[int]], palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(rows, np.uint8))
    if palette:
        image.putpalette([value // 3 for value in range(768)])
    image.save(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_voc(root: Path) -> Path:
    base = root / "VOCdevkit/VOC2012"
    write_image(base / "JPEGImages/2007_000033.jpg")
    # An aeroplane (1) with its void border, and two persons (15) of which one is instance 3.
    classes = [[0, 1, 1, 255], [0, 15, 15, 15], [0, 0, 0, 0]]
    write_mask(base / "SegmentationClass/2007_000033.png", classes, palette=True)
    instances = [[0, 1, 1, 255], [0, 2, 3, 3], [0, 0, 0, 0]]
    write_mask(base / "SegmentationObject/2007_000033.png", instances, palette=True)
    write_text(base / "ImageSets/Segmentation/val.txt", "2007_000033\n2007_000099\n")
    return root


def write_context(root: Path) -> Path:
    base = root / "VOCdevkit/VOC2010"
    write_image(base / "JPEGImages/2008_000008.jpg")
    write_text(base / "ImageSets/Main/val.txt", "2008_000008 -1\n")
    # Three classes that are not among the 59 stand before them, as in the published list of 459.
    names = ["accordion", "air conditioner", "unknown", *CONTEXT_CLASSES]
    write_text(root / "labels.txt", "".join(f"{i}: {n}\n" for i, n in enumerate(names, 1)))
    sky, horse = names.index("sky") + 1, names.index("horse") + 1
    label_map = np.array([[sky] * 4, [horse, horse, 1, 3], [0, 0, horse, horse]], np.uint16)
    (root / "trainval").mkdir()
    savemat(root / "trainval/2008_000008.mat", {"LabelMap": label_map})
    return root


def write_ade(root: Path) -> Path:
    base = root / "ADEChallengeData2016"
    write_image(base / "images/validation/ADE_val_00000001.jpg")
    mask = [[0, 1, 1, 2], [3, 3, 3, 3], [0, 0, 0, 0]]
    write_mask(base / "annotations/validation/ADE_val_00000001.png", mask)
    table = "Idx\tRatio\tTrain\tVal\tName\n1\t0.15\t11\t1\twall\n2 \t0.1\t6\t6\tbed \n"
    write_text(base / "objectInfo150.txt", table + "3\t0.08\t8\t7\tdoor, double door\n")
    return root


def write_coco(root: Path) -> Path:
    write_image(root / "images/val2017/000000000139.jpg")
    mask = [[0, 0, 170, 170], [11, 255, 171, 171], [172, 172, 179, 179]]
    mask[1][0] = 0  # 11 (street sign) is in no image
    write_mask(root / "stuffthingmaps_trainval2017/val2017/000000000139.png", mask)
    lines = ["0: unlabeled", "1: person", "12: street sign", "171: wall-brick"]
    lines += ["172: wall-concrete", "173: wall-other", "180: window-blind"]
    write_text(root / "labels.txt", "\n".join(lines) + "\n")
    return root


def write_folder(root: Path) -> MaskDataset:
    write_image(root / "images/kitchen/a.png")
    write_mask(root / "masks/kitchen/a.png", [[0, 3, 3, 3], [7, 7, 255, 9], [0, 0, 0, 0]])
    write_text(root / "classes.txt", "0: background\n3: mug/cup\n7: sofa; couch\n9: ignore\n")
    return folder_dataset(root / "images", root / "masks", root / "classes.txt")


class TestPascalVoc:
    def test_reads_classes_background_void_and_instances(self, tmp_path: Path) -> None:
        dataset = open_published("voc2012", write_voc(tmp_path))
        assert len(dataset.categories) == len(VOC_CLASSES) == 20
        sample = dataset.load("2007_000033")
        person = VOC_CLASSES.index("person")
        b, v = BACKGROUND, VOID
        expected = [[b, 0, 0, v], [b, person, person, person], [b, b, b, b]]
        np.testing.assert_array_equal(sample.classes, expected)
        found = [(region.id, region.category) for region in sample.regions]
        assert found == [(1, 0), (2, person), (3, person)]
        assert sample.masks().sum(axis=(1, 2)).tolist() == [2, 1, 2]

    def test_a_sample_without_files_is_listed(self, tmp_path: Path) -> None:
        dataset = open_published("voc2012", write_voc(tmp_path))
        assert dataset.names == ("2007_000033",)
        assert len(dataset.missing) == 1
        assert "2007_000099.jpg is missing" in dataset.missing[0]
        assert "SegmentationClass" in dataset.missing[0]

    def test_class_names_are_plain_english(self, tmp_path: Path) -> None:
        categories = open_published("voc2012", write_voc(tmp_path)).categories
        assert categories[10].name == "diningtable"
        assert categories[10].names == ("dining table",)
        assert categories[19].names == ("tv monitor", "television")

    def test_unknown_split_lists_those_that_exist(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no split 'test'.*there are: val"):
            open_published("voc2012", write_voc(tmp_path), "test")


class TestPascalContext:
    def test_59_classes_leave_the_rest_to_other_classes(self, tmp_path: Path) -> None:
        dataset = open_published("pascal-context-59", write_context(tmp_path))
        assert [category.name for category in dataset.categories] == list(CONTEXT_CLASSES)
        classes = dataset.load("2008_000008").classes
        sky, horse = CONTEXT_CLASSES.index("sky"), CONTEXT_CLASSES.index("horse")
        o = OTHER
        np.testing.assert_array_equal(
            classes, [[sky] * 4, [horse, horse, o, o], [o, o, horse, horse]]
        )

    def test_459_classes_leave_unknown_to_other_classes(self, tmp_path: Path) -> None:
        dataset = open_published("pascal-context-459", write_context(tmp_path))
        names = [category.name for category in dataset.categories]
        assert names == ["accordion", "air conditioner", *CONTEXT_CLASSES]
        assert dataset.load("2008_000008").classes[1, 2:].tolist() == [0, OTHER]

    def test_a_list_without_the_59_is_refused(self, tmp_path: Path) -> None:
        root = write_context(tmp_path)
        write_text(root / "labels.txt", "1: accordion\n")
        with pytest.raises(DatasetError, match="lists no aeroplane"):
            open_published("pascal-context-59", root)

    def test_a_file_without_label_map_is_named(self, tmp_path: Path) -> None:
        dataset = open_published("pascal-context-59", write_context(tmp_path))
        savemat(tmp_path / "trainval/2008_000008.mat", {"other": np.zeros((3, 4))})
        with pytest.raises(DatasetError, match=r"2008_000008.mat: holds no LabelMap"):
            dataset.load("2008_000008")


class TestAde20k:
    def test_reads_classes_with_synonyms(self, tmp_path: Path) -> None:
        dataset = open_published("ade20k", write_ade(tmp_path))
        assert [category.names for category in dataset.categories] == [
            ("wall",),
            ("bed",),
            ("door", "double door"),
        ]
        classes = dataset.load("ADE_val_00000001").classes
        assert classes.tolist() == [[OTHER, 0, 0, 1], [2, 2, 2, 2], [OTHER] * 4]


class TestCocoStuff:
    def test_mask_values_are_one_less_than_the_list(self, tmp_path: Path) -> None:
        dataset = open_published("coco-stuff", write_coco(tmp_path))
        assert [category.name for category in dataset.categories] == [
            "person",
            "wall-brick",
            "wall-concrete",
            "wall-other",
            "window-blind",
        ]
        classes = dataset.load("000000000139").classes
        assert classes.tolist() == [[0, 0, 1, 1], [0, OTHER, 2, 2], [3, 3, 4, 4]]

    def test_narrowed_classes_become_plain_english(self, tmp_path: Path) -> None:
        categories = open_published("coco-stuff", write_coco(tmp_path)).categories
        names = [category.names[0] for category in categories]
        assert names == ["person", "brick wall", "concrete wall", "wall", "window blind"]


class TestFolder:
    def test_reads_subfolders_and_special_classes(self, tmp_path: Path) -> None:
        dataset = write_folder(tmp_path)
        assert dataset.names == ("kitchen/a",)
        assert [category.names for category in dataset.categories] == [
            ("mug", "cup"),
            ("sofa", "couch"),
        ]
        b, v = BACKGROUND, VOID
        expected = [[b, 0, 0, 0], [1, 1, v, v], [b, b, b, b]]
        assert dataset.load("kitchen/a").classes.tolist() == expected

    def test_missing_masks_are_listed(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        write_image(tmp_path / "images/b.jpg")
        dataset = folder_dataset(tmp_path / "images", tmp_path / "masks", tmp_path / "classes.txt")
        assert dataset.names == ("kitchen/a",)
        assert dataset.missing == (f"b: {tmp_path / 'masks/b.png'} is missing",)

    def test_without_any_mask_it_is_refused(self, tmp_path: Path) -> None:
        write_folder(tmp_path)
        with pytest.raises(DatasetError, match=r"no image with ground truth.*kitchen/a"):
            folder_dataset(tmp_path / "images", tmp_path / "nowhere", tmp_path / "classes.txt")

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda root: write_mask(root / MASK, [[4] * 4] * 3), "value 4 is not in the class"),
            (lambda root: write_image(root / MASK), "is a colour image"),
            (
                lambda root: write_mask(root / MASK, [[3, 3]]),
                r"the image is \(3, 4\), but its ground truth is \(1, 2\)",
            ),
            (lambda root: write_text(root / MASK, "no"), r"masks/kitchen/a.png: can't be read"),
            (lambda root: write_text(root / IMAGE, "no"), r"images/kitchen/a.png: can't be read"),
        ],
    )
    def test_a_broken_file_is_named(
        self, tmp_path: Path, damage: Callable[[Path], None], message: str
    ) -> None:
        dataset = write_folder(tmp_path)
        damage(tmp_path)
        with pytest.raises(DatasetError, match=message):
            dataset.load("kitchen/a")


class TestClassLists:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("mug\nsofa\n", {0: "mug", 1: "sofa"}),
            ("3: mug\n\n9: sofa\n", {3: "mug", 9: "sofa"}),
            ("3\tmug\n9\tsofa, couch\n", {3: "mug", 9: "sofa, couch"}),
        ],
    )
    def test_reads_names_with_and_without_numbers(
        self, tmp_path: Path, text: str, expected: dict[int, str]
    ) -> None:
        write_text(tmp_path / "classes.txt", text)
        assert read_class_list(tmp_path / "classes.txt") == expected

    @pytest.mark.parametrize("text", ["", "\n\n", "3: mug\nsofa\n", "3: mug\n3: sofa\n"])
    def test_refuses_what_is_neither(self, tmp_path: Path, text: str) -> None:
        write_text(tmp_path / "classes.txt", text)
        with pytest.raises(DatasetError, match=r"classes.txt"):
            read_class_list(tmp_path / "classes.txt")

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("mug", ("mug",)),
            ("Door;double door", ("door", "double door")),
            ("bus, autobus, double-decker", ("bus", "autobus", "double-decker")),
            ("sofa/couch ", ("sofa", "couch")),
            ("traffic_light", ("traffic light",)),
            ("mug; mug ;;", ("mug",)),
        ],
    )
    def test_splits_synonyms(self, text: str, names: tuple[str, ...]) -> None:
        assert parse_category(text).names == names

    def test_a_class_needs_a_name(self) -> None:
        with pytest.raises(DatasetError, match="needs a name"):
            parse_category(" / ")


class TestSynthetic:
    def test_every_pixel_has_a_class_and_every_region_a_phrase(self) -> None:
        dataset = SyntheticDataset(scenes=1, height=48, width=64)
        sample = dataset.load(dataset.names[0])
        assert sample.image.shape == (48, 64, 3)
        assert sample.classes.min() >= 0
        nouns = [category.name for category in dataset.categories]
        for region in sample.regions:
            noun = nouns[region.category]
            pixels = sample.instances == region.id
            assert set(sample.classes[pixels].tolist()) == {region.category}
            assert region.phrase.endswith(noun)
            assert (region.group == "object") == (region.phrase != noun)
        assert {"ground"} <= {region.group for region in sample.regions}

    def test_is_reproducible(self) -> None:
        first, second = (SyntheticDataset(2, 32, 32).load("scene-00001") for _ in range(2))
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.classes, second.classes)

    def test_a_seed_chooses_other_scenes(self) -> None:
        first, later = SyntheticDataset(3, 32, 32), SyntheticDataset(2, 32, 32, seed=2)
        assert later.names == ("scene-00002", "scene-00003")
        assert set(first.names) & set(later.names) == {"scene-00002"}
        np.testing.assert_array_equal(
            first.load("scene-00002").image, later.load("scene-00002").image
        )
        assert first.title != later.title
        with pytest.raises(DatasetError, match=r"must lie within 0 \.\. 1000000000, got -1"):
            SyntheticDataset(2, 32, 32, seed=-1)

    def test_new_kinds_are_others(self) -> None:
        known, new = SyntheticDataset(4, 48, 64), SyntheticDataset(4, 48, 64, new_kinds=True)
        for dataset, kinds in ((known, KINDS), (new, HELD_OUT_KINDS)):
            samples = [dataset.load(name) for name in dataset.names]
            nouns = {
                dataset.categories[region.category].name
                for sample in samples
                for region in sample.regions
                if region.group == "object"
            }
            assert nouns
            assert nouns <= set(kinds)
        assert set(HELD_OUT_KINDS) <= set(load_vocabulary("everyday"))
        assert not any(phrase.endswith(HELD_OUT_KINDS) for phrase in load_vocabulary("synthetic"))

    def test_seeds_lie_far_above_those_of_training(self) -> None:
        assert FIRST_SEED >= 2_000_000_000

    @pytest.mark.parametrize(("scenes", "height", "width"), [(0, 480, 640), (1, 8, 640)])
    def test_refuses_impossible_sizes(self, scenes: int, height: int, width: int) -> None:
        with pytest.raises(DatasetError, match="must be at least"):
            SyntheticDataset(scenes, height, width)


def test_classes_become_regions_where_there_are_no_instances() -> None:
    classes = np.array([[2, 2, VOID], [0, BACKGROUND, 2]], np.int32)
    instances, regions = regions_of_classes(classes, 4)
    assert instances.tolist() == [[3, 3, 0], [1, 0, 3]]
    assert [(region.id, region.category) for region in regions] == [(1, 0), (3, 2)]


def test_first_samples_are_a_data_set_of_their_own(tmp_path: Path) -> None:
    dataset = SyntheticDataset(5, 32, 32)
    first = FirstSamples(dataset, 2)
    assert first.names == ("scene-00000", "scene-00001")
    assert first.title != dataset.title


def test_a_folder_without_the_layout_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no JPEGImages.*looked there and in.*VOCdevkit"):
        open_published("voc2012", tmp_path)


def test_an_unknown_data_set_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="voc2012, pascal-context-59"):
        open_published("voc2007", tmp_path)


def test_a_sample_whose_maps_do_not_fit_is_refused() -> None:
    with pytest.raises(DatasetError, match="its ground truth"):
        Sample(
            "a",
            np.zeros((2, 3, 3), np.uint8),
            np.zeros((2, 2), np.int32),
            np.zeros((2, 3), np.int32),
            (),
        )
