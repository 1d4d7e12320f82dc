"""Metrics agree with examples worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zgs_ros.evaluation import metrics
from zgs_ros.evaluation.metrics import BACKGROUND, NONE, NOT_FOUND, OTHER, VOID

B, V, N, X = BACKGROUND, VOID, NONE, OTHER


def confusion(truth: list, prediction: list, classes: int) -> np.ndarray:
    return metrics.confusion_matrix(np.array(truth), np.array(prediction), classes)


class TestConfusionMatrix:
    def test_counts_pairs(self) -> None:
        # Pixels as (true, predicted): (0,0) (0,1) (1,1) (1,none) (background,1) (void,0).
        counts = confusion([[0, 0, 1], [1, B, V]], [[0, 1, 1], [N, 1, 0]], 2)
        # The last row is background, the last column none; the void pixel is nowhere.
        np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 1], [0, 1, 0]])

    def test_all_void_counts_nothing(self) -> None:
        assert confusion([[V, V]], [[0, N]], 3).sum() == 0

    def test_refuses_maps_of_different_size(self) -> None:
        with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 1\)"):
            confusion([[0, 0]], [[0]], 1)

    @pytest.mark.parametrize(
        ("truth", "prediction"), [([[2]], [[0]]), ([[0]], [[2]]), ([[-4]], [[0]])]
    )
    def test_refuses_unknown_classes(self, truth: list, prediction: list) -> None:
        with pytest.raises(ValueError, match="must lie within"):
            confusion(truth, prediction, 2)


class TestImageIou:
    def test_two_classes_and_a_wrong_one(self) -> None:
        # truth      0 0 0 0   prediction 0 0 0 1
        #            1 1 1 1              1 1 2 2
        # class 0: intersection 3, union 4                      -> 3/4
        # class 1: intersection 2, union 4 + 3 - 2 = 5          -> 2/5
        # class 2: not in the truth, predicted on class 1       -> 0
        # mean = (0.75 + 0.4 + 0) / 3 = 1.15 / 3
        counts = confusion([[0, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 0, 1], [1, 1, 2, 2]], 3)
        np.testing.assert_allclose(metrics.image_ious(counts), [0.75, 0.4, 0.0], rtol=0, atol=0)
        assert metrics.image_iou(counts) == 1.15 / 3

    def test_void_pixels_count_for_nobody(self) -> None:
        # truth      0 0 v v   prediction 0 1 0 2
        # class 0: intersection 1, union 2 (its void pixel is out) -> 1/2
        # class 1: predicted on class 0                            -> 0
        # class 2: predicted on void alone, takes no part          -> NaN
        # mean = (1/2 + 0) / 2 = 1/4
        counts = confusion([[0, 0, V, V]], [[0, 1, 0, 2]], 3)
        np.testing.assert_array_equal(metrics.image_ious(counts), [0.5, 0.0, np.nan])
        assert metrics.image_iou(counts) == 0.25

    def test_background_is_forgiven_to_absent_classes_only(self) -> None:
        # truth      0 0 b b b b   prediction 0 0 0 0 1 none
        # class 0 is in the truth: intersection 2, union 4 with the two background pixels -> 1/2
        # class 1 is not, and was predicted on background alone                           -> NaN
        counts = confusion([[0, 0, B, B, B, B]], [[0, 0, 0, 0, 1, N]], 2)
        np.testing.assert_array_equal(metrics.image_ious(counts), [0.5, np.nan])
        assert metrics.image_iou(counts) == 0.5

    def test_other_classes_count_for_the_reference_alone(self) -> None:
        # truth 0 0 x x   prediction 0 1 0 2
        # class 0: intersection 1, union 2, or 3 with the pixel on another class
        # class 1: predicted on class 0 -> 0; class 2: predicted on another class alone -> NaN, or 0
        truth, prediction = np.array([[0, 0, X, X]]), np.array([[0, 1, 0, 2]])
        counts = metrics.confusion_matrix(truth, prediction, 3)
        on_other = metrics.count_on_other(truth, prediction, 3)
        assert on_other.tolist() == [1, 0, 1]
        np.testing.assert_array_equal(metrics.image_ious(counts), [0.5, 0.0, np.nan])
        np.testing.assert_array_equal(metrics.image_ious(counts, on_other), [1 / 3, 0.0, 0.0])

    def test_nothing_predicted_is_zero(self) -> None:
        assert metrics.image_iou(confusion([[0, 1]], [[N, N]], 2)) == 0.0

    def test_nothing_in_truth_and_nothing_predicted_is_nan(self) -> None:
        assert math.isnan(metrics.image_iou(confusion([[V, B]], [[N, N]], 2)))


class TestDatasetMiou:
    def test_adds_up_pixels_of_all_images(self) -> None:
        # image 1: truth 0 0 1 1, prediction 0 0 1 1: both classes right.
        # image 2: truth 0 0 0 0, prediction 0 1 1 1.
        # class 0: intersection 2 + 1 = 3, union 2 + 4 = 6                     -> 1/2
        # class 1: intersection 2 + 0 = 2, union 2 + 3 = 5                     -> 2/5
        # data set: (1/2 + 2/5) / 2 = 0.45
        # per image: image 1 -> 1; image 2 -> (1/4 + 0) / 2 = 0.125; mean 0.5625
        first = confusion([[0, 0, 1, 1]], [[0, 0, 1, 1]], 2)
        second = confusion([[0, 0, 0, 0]], [[0, 1, 1, 1]], 2)
        assert metrics.dataset_miou(first + second) == 0.45
        assert metrics.nan_mean([metrics.image_iou(first), metrics.image_iou(second)]) == 0.5625

    def test_background_costs_every_class(self) -> None:
        # truth 0 0 b b, prediction 0 none 1 none; class 2 occurs nowhere.
        # class 0: intersection 1, union 2 -> 1/2; class 1: on background -> 0/1 = 0; class 2 -> NaN
        # mean over classes = 1/4; background: intersection 1, union 2 + 2 - 1 = 3 -> 1/3
        counts = confusion([[0, 0, B, B]], [[0, N, 1, N]], 3)
        np.testing.assert_array_equal(metrics.class_ious(counts), [0.5, 0.0, np.nan])
        assert metrics.dataset_miou(counts) == 0.25
        assert metrics.background_iou(counts) == 1 / 3

    def test_without_background_its_iou_is_nan(self) -> None:
        assert math.isnan(metrics.background_iou(confusion([[0]], [[N]], 1)))

    def test_empty_data_set_is_nan(self) -> None:
        assert math.isnan(metrics.dataset_miou(np.zeros((3, 3), np.int64)))


class TestIouMatrix:
    def test_two_regions_and_two_segments(self) -> None:
        # truth    5 5 5 9   segments  1 1 2 2
        # 5 and 1: 2 / (3 + 2 - 2) = 2/3;  5 and 2: 1 / (3 + 2 - 1) = 1/4
        # 9 and 1: 0;                      9 and 2: 1 / (1 + 2 - 1) = 1/2
        ious = metrics.iou_matrix(
            np.array([[5, 5, 5, 9]]), np.array([[1, 1, 2, 2]]), [5, 9], [1, 2]
        )
        np.testing.assert_array_equal(ious, [[2 / 3, 0.25], [0.0, 0.5]])

    def test_pixels_that_are_not_known_count_nowhere(self) -> None:
        # truth 5 5 5 9, segments 1 1 2 2, the third pixel unknown:
        # 5 and 1: 2 / (2 + 2 - 2) = 1;  9 and 2: 1 / (1 + 1 - 1) = 1
        known = np.array([[True, True, False, True]])
        ious = metrics.iou_matrix(
            np.array([[5, 5, 5, 9]]), np.array([[1, 1, 2, 2]]), [9, 5], [2, 1], known
        )
        np.testing.assert_array_equal(ious, [[1.0, 0.0], [0.0, 1.0]])

    def test_other_regions_still_widen_the_union(self) -> None:
        # Only region 5 and segment 1 are asked for: intersection 1, union 1 + 3 - 1 = 3.
        ious = metrics.iou_matrix(np.array([[5, 0, 7]]), np.array([[1, 1, 1]]), [5], [1])
        np.testing.assert_array_equal(ious, [[1 / 3]])

    @pytest.mark.parametrize(("truths", "segments"), [([], [1]), ([5], []), ([], [])])
    def test_without_regions_or_segments_it_is_empty(self, truths: list, segments: list) -> None:
        ious = metrics.iou_matrix(np.array([[5]]), np.array([[1]]), truths, segments)
        assert ious.shape == (len(truths), len(segments))


class TestOverSegmentationQuality:
    def test_takes_the_best_segment_of_each_instance(self) -> None:
        # truth  1 1 1 1   segments  1 1 1 2
        #        2 2 3 3             2 2 2 2
        # instance 1: segment 1 -> 3/4; instance 2: segment 2 -> 2/5; instance 3: segment 2 -> 2/5
        # mean = (0.75 + 0.4 + 0.4) / 3 = 1.55 / 3
        truth = np.array([[1, 1, 1, 1], [2, 2, 3, 3]])
        segments = np.array([[1, 1, 1, 2], [2, 2, 2, 2]])
        best = metrics.best_ious(metrics.iou_matrix(truth, segments, [1, 2, 3], [1, 2]))
        assert metrics.over_segmentation_quality(best) == pytest.approx(1.55 / 3, abs=1e-15)

    def test_one_segment_over_everything(self) -> None:
        # Instances of 3 and 1 of 4 pixels under one segment: (3/4 + 1/4) / 2 = 1/2
        best = metrics.best_ious(
            metrics.iou_matrix(np.array([[1, 1, 1, 2]]), np.ones((1, 4), int), [1, 2], [1])
        )
        assert metrics.over_segmentation_quality(best) == 0.5

    def test_no_segments_is_zero(self) -> None:
        assert metrics.over_segmentation_quality(metrics.best_ious(np.zeros((2, 0)))) == 0.0

    def test_no_instances_is_nan(self) -> None:
        assert math.isnan(metrics.over_segmentation_quality(metrics.best_ious(np.zeros((0, 2)))))


class TestSegmentRecall:
    def test_thresholds_are_every_hundredth(self) -> None:
        assert metrics.RECALL_THRESHOLDS.shape == (101,)
        assert metrics.RECALL_THRESHOLDS[[0, 1, 50, 100]].tolist() == [0.0, 0.01, 0.5, 1.0]

    def test_one_found_and_one_missed_class(self) -> None:
        # Best IoU 1/2 passes 0.00 .. 0.50, that is 51 of 101 thresholds; the missed class passes
        # none. Per threshold the share is 1/2 (51 times) or 0: 51 * 0.5 / 101 = 51/202
        assert metrics.segment_recall([0.5, NOT_FOUND]) == 51 / 202

    def test_perfect_and_touching_nothing(self) -> None:
        # IoU 1 passes all 101; IoU 0 of a segment that was mapped to the class passes t = 0 only.
        # (101 + 1) / (2 * 101) = 102/202
        assert metrics.segment_recall([1.0, 0.0]) == 102 / 202

    def test_the_reference_counts_predicted_classes_too(self) -> None:
        # Class 0 at IoU 1/2: 51 thresholds. Classes 1 and 2 are predicted and absent: the first for
        # another class's pixel, at IoU 0, which passes t = 0; the second on background alone.
        blamed = np.array([True, True, False])
        found = metrics.reference_recall([0.5], [0], [0, 1, 1, 2, NONE], blamed)
        assert found == (51 + 1 + 0) / 303

    def test_only_segments_of_the_class_count(self) -> None:
        # Region 0 of class 7 overlaps segment 1 best, but that is mapped to class 3; of the
        # segments mapped to 7 the best is 0.2. Region 1 of class 3 gets 0.1 from segment 1. Region
        # 2 of class 5 has no segment. Segment 3 was mapped to nothing.
        ious = np.array([[0.2, 0.8, 0.1, 0.9], [0.0, 0.1, 0.6, 0.0], [0.3, 0.3, 0.3, 0.3]])
        best = metrics.best_named_ious(ious, [7, 3, 5], [7, 3, 7, NONE])
        assert best.tolist() == [0.2, 0.1, NOT_FOUND]
        # 0.2 passes 21 thresholds, 0.1 passes 11, the third none: 32 / 303
        assert metrics.segment_recall(best) == pytest.approx(32 / 303, abs=1e-15)

    def test_nothing_predicted_is_zero(self) -> None:
        assert metrics.segment_recall(metrics.best_named_ious(np.zeros((2, 0)), [0, 1], [])) == 0.0

    def test_nothing_in_truth_is_nan(self) -> None:
        assert math.isnan(
            metrics.segment_recall(metrics.best_named_ious(np.zeros((0, 2)), [], [0, 1]))
        )


class TestTextGenerationQuality:
    @pytest.mark.parametrize(
        ("similarities", "expected"),
        [
            ([0.9, 0.5, 0.49, -0.2], 2 / 4),  # 0.9 and exactly 0.5 are right
            ([1, 0, 1], 2 / 3),  # exact names: two of three
            ([0.1], 0.0),
        ],
    )
    def test_is_the_share_at_or_above_the_threshold(
        self, similarities: list, expected: float
    ) -> None:
        assert metrics.text_generation_quality(similarities) == expected

    def test_threshold_can_be_chosen(self) -> None:
        assert metrics.text_generation_quality([0.9, 0.5, 0.49], threshold=0.6) == 1 / 3

    def test_nothing_in_truth_is_nan(self) -> None:
        assert math.isnan(metrics.text_generation_quality([]))


class TestRecallBySize:
    def test_splits_by_share_of_the_image(self) -> None:
        # 640 x 480 = 307200 pixels: 1024 of them (32^2) are 1/300, the largest tiny size; 3072 are
        # 0.01, the largest small size; 9216 (96^2) are 0.03, the largest medium size.
        # tiny: best 0.5 and not found -> 51/202; small: best 0.1 -> 11/101;
        # medium: best 0 -> 1/101; large: best 1 -> 1
        shares = [1024 / 307200, 0.001, 3072 / 307200, 9216 / 307200, 0.5]
        result = metrics.recall_by_size([0.5, NOT_FOUND, 0.1, 0.0, 1.0], shares)
        assert result == {
            "tiny": (2, 51 / 202),
            "small": (1, 11 / 101),
            "medium": (1, 1 / 101),
            "large": (1, 1.0),
        }

    def test_an_empty_size_is_nan(self) -> None:
        # Only large regions: best 0.25 passes 26 thresholds, best 1 passes 101: 127/202
        result = metrics.recall_by_size([0.25, 1.0], [0.5, 0.4])
        assert result["large"] == (2, pytest.approx(127 / 202, abs=1e-15))
        assert result["tiny"][0] == 0
        assert math.isnan(result["tiny"][1])

    @pytest.mark.parametrize(
        ("share", "name"),
        [(0.0, "tiny"), (0.00334, "small"), (0.0101, "medium"), (0.031, "large"), (1.0, "large")],
    )
    def test_names_sizes(self, share: float, name: str) -> None:
        assert metrics.size_name(share) == name


def test_mean_leaves_nan_out() -> None:
    assert metrics.nan_mean([1.0, np.nan, 0.0]) == 0.5
    assert math.isnan(metrics.nan_mean([np.nan]))
