"""Claims about the synthetic world: pictures, their ground truth, captions and the camera."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from zgs_ros.synthetic import (
    BACKDROPS,
    COLOURS,
    GROUNDS,
    HELD_OUT_KINDS,
    KINDS,
    Frame,
    Scene,
    SyntheticCamera,
    captions,
    phrases,
    render,
    sample_scene,
)
from zgs_ros.synthetic.backdrops import backdrop_tile
from zgs_ros.synthetic.catalogue import build
from zgs_ros.synthetic.grounds import ground_tile
from zgs_ros.synthetic.palette import second_colour, vary_colour
from zgs_ros.synthetic.sampling import LARGEST, SMALLEST
from zgs_ros.synthetic.scene import (
    BACKDROP_ID,
    FIRST_OBJECT_ID,
    GROUND_ID,
    Camera,
    Light,
    SceneObject,
    Sensor,
    Surface,
)

SIZE = 64


def plain_scene(kind: str = "ball", *, size: float = 0.5, backdrop: str = "wall") -> Scene:
    """One red object at the origin, seen from 2 m away and 0.8 m above the ground."""
    item = SceneObject(
        kind=kind,
        colour="red",
        rgb=COLOURS["red"],
        pattern="plain",
        second_rgb=COLOURS["white"],
        pattern_scale=5.0,
        gloss=0.0,
        position=(0.0, 0.0),
        yaw=2.4,
        size=size,
        shape_seed=1,
    )
    return Scene(
        ground=Surface("concrete", 0, (1.0, 1.0, 1.0), 1.0, 0.0, (0.0, 0.0)),
        backdrop=Surface(backdrop, 0, (1.0, 1.0, 1.0), 1.0, 0.0, (0.0, 0.0)),
        wall=(0.0, 1.5),
        objects=(item,),
        light=Light((-0.5, 0.3, 0.8), (1.0, 1.0, 1.0), (0.4, 0.4, 0.4)),
        camera=Camera.looking((-2.0, 0.0, 0.8), (0.0, 0.0, 0.25), 40.0),
    )


def points_in_world(frame: Frame) -> np.ndarray:
    """World coordinates of all pixels from depth, K and pose, (H, W, 3)."""
    height, width = frame.depth.shape
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    k = frame.intrinsics
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], -1)
    return (rays * frame.depth[..., None]) @ frame.pose[:3, :3].T + frame.pose[:3, 3]


def project(points: np.ndarray, frame: Frame) -> np.ndarray:
    """Column, row and depth of world points (N, 3) in a frame."""
    local = (points - frame.pose[:3, 3]) @ frame.pose[:3, :3]
    image = local @ frame.intrinsics.T
    return np.concatenate([image[:, :2] / image[:, 2:], local[:, 2:]], axis=1)


# Determinism


def test_a_seed_decides_the_picture() -> None:
    first, second = (render(sample_scene(5), SIZE, SIZE) for _ in range(2))
    np.testing.assert_array_equal(first.rgb, second.rgb)
    np.testing.assert_array_equal(first.instances, second.instances)
    np.testing.assert_array_equal(first.depth, second.depth)
    assert first.things == second.things


def test_different_seeds_differ() -> None:
    assert len({repr(sample_scene(seed)) for seed in range(30)}) == 30


def test_the_global_random_state_is_left_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
    render(sample_scene(3), SIZE, SIZE)
    after = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
    np.testing.assert_array_equal(before, after)


# Ground truth


@pytest.mark.parametrize("kind", [*KINDS, *HELD_OUT_KINDS])
def test_every_kind_stands_on_the_ground_and_shows_its_colour(kind: str) -> None:
    frame = render(plain_scene(kind), SIZE, SIZE)
    mask = frame.instances == FIRST_OBJECT_ID
    assert mask.mean() > 0.005
    assert frame.things[FIRST_OBJECT_ID].phrase == f"red {kind}"
    red, green, blue = frame.rgb[mask].astype(float).T
    assert ((red > 1.6 * green) & (red > 1.6 * blue)).mean() > 0.25
    points = points_in_world(frame)[mask]
    assert points[:, 2].min() > -1e-3
    assert points[:, 2].max() < 0.5 + 1e-3


@pytest.mark.parametrize("kind", [*KINDS, *HELD_OUT_KINDS])
def test_every_kind_has_size_one(kind: str) -> None:
    for lying in (False, True):
        solid = build(kind, 3, lying)
        assert 0.02 < solid.height <= 1 + 1e-9
        assert solid.radius <= np.sqrt(0.5) + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_every_pixel_belongs_to_a_listed_thing(seed: int) -> None:
    frame = render(sample_scene(seed), 48, SIZE)
    assert frame.rgb.shape == (48, SIZE, 3)
    assert frame.rgb.dtype == np.uint8
    assert frame.instances.dtype == np.uint16
    assert frame.depth.dtype == np.float32
    assert set(np.unique(frame.instances)) == set(frame.things)
    for id_, thing in frame.things.items():
        assert thing.id == id_ >= 1
        assert thing.is_stuff == (thing.colour is None) == (id_ < FIRST_OBJECT_ID)
        assert thing.phrase in phrases()


@pytest.mark.parametrize(("backdrop", "finite"), [("sky", False), ("wall", True)])
def test_only_a_sky_is_infinitely_far(backdrop: str, finite: bool) -> None:
    scene = plain_scene(backdrop=backdrop)
    scene = replace(scene, camera=Camera.looking((-2.0, 0.0, 0.5), (0.0, 0.0, 0.5), 60.0))
    frame = render(scene, SIZE, SIZE)
    assert (np.isfinite(frame.depth[frame.instances == BACKDROP_ID]) == finite).all()
    assert np.isfinite(frame.depth[frame.instances != BACKDROP_ID]).all()


def test_depth_of_a_sphere_is_analytic() -> None:
    frame = render(plain_scene("ball", size=0.5), SIZE, SIZE)
    mask = frame.instances == FIRST_OBJECT_ID
    offset = points_in_world(frame)[mask] - (0.0, 0.0, 0.25)
    np.testing.assert_allclose(np.linalg.norm(offset, axis=1), 0.25, atol=2e-4)
    to_camera = frame.pose[:3, 3] - (0.0, 0.0, 0.25)
    assert (offset @ to_camera > 0).all()  # the front of the sphere


def test_depth_of_ground_and_wall_is_analytic() -> None:
    frame = render(plain_scene(), SIZE, SIZE)
    points = points_in_world(frame)
    np.testing.assert_allclose(points[frame.instances == GROUND_ID][:, 2], 0, atol=1e-4)
    np.testing.assert_allclose(points[frame.instances == BACKDROP_ID][:, 0], 1.5, atol=1e-3)


def test_depth_and_instances_do_not_depend_on_samples() -> None:
    coarse, fine = (render(plain_scene("mug"), SIZE, SIZE, samples=n) for n in (1, 2))
    np.testing.assert_array_equal(coarse.instances, fine.instances)
    np.testing.assert_allclose(coarse.depth, fine.depth, rtol=1e-4)
    assert np.abs(coarse.rgb.astype(int) - fine.rgb).mean() < 4


def test_intrinsics_and_pose_follow_the_optical_convention() -> None:
    frame = render(plain_scene(), 48, SIZE)
    assert frame.intrinsics[0, 2] == (SIZE - 1) / 2
    assert frame.intrinsics[1, 2] == (48 - 1) / 2
    assert frame.intrinsics[0, 0] == frame.intrinsics[1, 1]
    rotation = frame.pose[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert rotation[2, 1] < -0.9  # y of the optical frame points down
    target = project(np.array([[0.0, 0.0, 0.25]]), frame)[0]
    np.testing.assert_allclose(target[:2], frame.intrinsics[:2, 2])
    assert target[2] == pytest.approx(np.hypot(2.0, 0.55))


def test_objects_cast_a_shadow_away_from_the_light() -> None:
    scene = plain_scene("box")
    scene = replace(scene, camera=Camera.looking((-0.01, 0.0, 3.0), (0.0, 0.0, 0.0), 40.0))
    scene = replace(scene, light=Light((0.0, 0.6, 0.8), (1.0, 1.0, 1.0), (0.3, 0.3, 0.3)))
    frame = render(scene, SIZE, SIZE)
    points = points_in_world(frame)
    ground = frame.instances == GROUND_ID
    near = ground & (np.abs(points[..., 0]) < 0.1)
    y = points[..., 1]
    edge = np.abs(y[(frame.instances == FIRST_OBJECT_ID)]).max()
    dark, bright = near & (y < 0) & (y > -edge - 0.08), near & (y > 0) & (y < edge + 0.08)
    assert frame.rgb[dark].mean() < 0.75 * frame.rgb[bright].mean()


# Variety


def test_phrases_are_unique_and_complete() -> None:
    known = phrases()
    assert len(set(known)) == len(known) == len(KINDS) * len(COLOURS) + len(GROUNDS + BACKDROPS)
    assert len(KINDS) >= 32
    assert len(COLOURS) >= 10
    assert len(GROUNDS) >= 8
    assert len(BACKDROPS) >= 5
    assert not set(KINDS) & set(HELD_OUT_KINDS)


def test_named_colours_stay_apart_however_they_vary() -> None:
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    centres = np.array([COLOURS[name] for name in names])
    for number, name in enumerate(names):
        drawn = np.array([vary_colour(name, rng) for _ in range(50)])
        nearest = np.linalg.norm(drawn[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == number).all()
        assert np.abs(np.subtract(second_colour(COLOURS[name], rng), COLOURS[name])).max() > 0.02


def test_surfaces_are_distinct() -> None:
    def describe(tile: object) -> np.ndarray:
        packed = tile.pixels[: 512 * 512].numpy()  # type: ignore[attr-defined]
        rgb = np.stack([(packed >> shift) & 255 for shift in (0, 8, 16)], axis=1) / 255
        fine = np.abs(np.diff(rgb.mean(axis=1).reshape(512, 512), axis=1)).mean()
        return np.concatenate([rgb.mean(axis=0), rgb.std(axis=0), [4 * fine]])

    described = [describe(ground_tile(name, 0)) for name in GROUNDS]
    described += [describe(backdrop_tile(name, 0)) for name in BACKDROPS]
    for k, one in enumerate(described):
        for other in described[:k]:
            assert np.abs(one - other).max() > 0.04


def test_objects_keep_the_size_range_and_do_not_touch() -> None:
    seen: set[str] = set()
    for seed in range(40):
        scene = sample_scene(seed, closeup=0.2)
        seen |= {item.kind for item in scene.objects}
        for k, item in enumerate(scene.objects):
            assert SMALLEST <= item.size <= LARGEST
            for other in scene.objects[:k]:
                gap = np.hypot(*np.subtract(item.position, other.position))
                assert gap > item.radius + other.radius
    assert len(seen) > 0.8 * len(KINDS)


def test_objects_span_small_to_dominant() -> None:
    shares = []
    for seed in range(30):
        frame = render(sample_scene(seed), 48, 48)
        counts = np.bincount(frame.instances.ravel()) / 48**2
        shares += [counts[id_] for id_, thing in frame.things.items() if not thing.is_stuff]
    assert np.quantile(shares, 0.1) < 0.02
    assert np.quantile(shares, 0.95) > 0.12


@pytest.mark.parametrize(
    ("objects", "expected"), [((0, 0), {0}), ((2, 2), {2}), ((1, 3), {1, 2, 3})]
)
def test_the_number_of_objects_is_kept(objects: tuple[int, int], expected: set[int]) -> None:
    counts = {len(sample_scene(seed, objects=objects, closeup=0).objects) for seed in range(12)}
    assert counts == expected


def test_kinds_can_be_chosen() -> None:
    scene = sample_scene(1, kinds=["giraffe"], objects=(2, 2), closeup=0)
    assert {item.kind for item in scene.objects} == {"giraffe"}


def test_the_sensor_disturbs_gently() -> None:
    scene = replace(plain_scene(), sensor=Sensor(0.002, 0.01, 1.05, (1.02, 1.0, 0.98), 0.2, 1))
    clean, disturbed = render(plain_scene(), SIZE, SIZE).rgb, render(scene, SIZE, SIZE).rgb
    difference = np.abs(clean.astype(int) - disturbed)
    assert 1 < difference.mean() < 15


# Captions


def test_captions_only_mention_what_is_there() -> None:
    rng = np.random.default_rng(0)
    vocabulary = set(KINDS) | set(GROUNDS) | set(BACKDROPS)
    pattern = re.compile(r"\b(" + "|".join(sorted(vocabulary, key=len, reverse=True)) + r")\b")
    different = set()
    for seed in range(10):
        frame = render(sample_scene(seed), SIZE, SIZE)
        nouns = {thing.noun for thing in frame.things.values()}
        pairs = {(thing.colour, thing.noun) for thing in frame.things.values()}
        for _ in range(12):
            caption = captions(frame, rng)
            different.add(caption)
            found = pattern.findall(caption)
            assert found, caption
            assert set(found) <= nouns, caption
            for colour, noun in re.findall(rf"\b({'|'.join(COLOURS)}) (\w+)", caption):
                assert (colour, noun) in pairs, caption
    assert len(different) > 60


def test_captions_name_large_things_more_often_than_small_ones() -> None:
    frame = render(sample_scene(1, objects=(4, 6), closeup=0), SIZE, SIZE)
    objects = [thing for thing in frame.things.values() if not thing.is_stuff]
    area = np.bincount(frame.instances.ravel())
    objects.sort(key=lambda thing: int(area[thing.id]))
    rng = np.random.default_rng(0)
    texts = [captions(frame, rng) for _ in range(200)]
    small, large = (sum(t.noun in text for text in texts) for t in (objects[0], objects[-1]))
    assert large > 1.5 * small


# Camera


def test_ids_stay_with_their_things_over_time() -> None:
    camera = SyntheticCamera(seed=2, height=48, width=SIZE)
    everything = camera.things
    assert 5 <= len(everything) - 2 <= 7
    assert len({t.noun for t in everything.values()}) == len(everything)
    assert len({t.colour for t in everything.values() if t.colour}) == len(everything) - 2
    for index in (0, 50, 150):
        frame = camera.frame(index)
        assert all(everything[id_] == thing for id_, thing in frame.things.items())


def test_points_of_a_thing_project_to_the_same_thing_in_another_frame() -> None:
    camera = SyntheticCamera(seed=4, height=120, width=160, rate_hz=10, moving=False)
    first, second = camera.frame(0), camera.frame(12)
    assert np.abs(first.pose - second.pose).max() > 0.05
    checked = 0
    for id_ in first.things:
        points = points_in_world(first)[(first.instances == id_) & np.isfinite(first.depth)]
        if not len(points):
            continue
        column, row, depth = project(points, second).T
        column, row = np.rint(column).astype(int), np.rint(row).astype(int)
        inside = (column >= 0) & (column < 160) & (row >= 0) & (row < 120)
        at = (row[inside], column[inside])
        # Where the point is not hidden behind something nearer, the same thing must be seen.
        seen = np.abs(second.depth[at] - depth[inside]) < 0.02
        if seen.sum() > 20:
            assert (second.instances[at][seen] == id_).mean() > 0.95
            checked += 1
    assert checked >= 5


def test_frames_are_random_access_and_iteration_agrees() -> None:
    camera = SyntheticCamera(seed=1, height=32, width=48)
    stream = iter(camera)
    frames = [next(stream) for _ in range(3)]
    np.testing.assert_array_equal(frames[2].rgb, SyntheticCamera(1, 32, 48).frame(2).rgb)
    assert not np.array_equal(frames[0].pose, frames[2].pose)


def test_the_path_is_smooth_and_closed() -> None:
    camera = SyntheticCamera(seed=3, height=32, width=48, rate_hz=10)
    poses = np.stack([camera.scene(i).camera.pose() for i in range(241)])
    np.testing.assert_allclose(poses[240], poses[0], atol=1e-9)
    assert np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).max() < 0.06


def test_one_object_moves_without_touching_the_others() -> None:
    camera = SyntheticCamera(seed=3)
    for index in range(0, 240, 20):
        objects = camera.scene(index).objects
        for k, item in enumerate(objects):
            for other in objects[:k]:
                gap = np.hypot(*np.subtract(item.position, other.position))
                assert gap > item.radius + other.radius
    moved = [
        a.position != b.position
        for a, b in zip(camera.scene(0).objects, camera.scene(60).objects, strict=True)
    ]
    assert sum(moved) == 1


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_scene(0, objects=(3, 1)), r"\(3, 1\)"),
        (lambda: sample_scene(0, objects=(-1, 1)), r"\(-1, 1\)"),
        (lambda: sample_scene(0, closeup=1.5), "1.5"),
        (lambda: sample_scene(0, aspect=0), "aspect .* 0"),
        (lambda: sample_scene(0, kinds=["unicorn"]), "unicorn"),
        (lambda: sample_scene(0, kinds=[]), "at least one"),
        (lambda: render(plain_scene(), 4, 64), "4 x 64"),
        (lambda: render(plain_scene(), 64, 64, samples=0), "samples .* 0"),
        (lambda: build("unicorn", 0), "unicorn"),
        (lambda: vary_colour("mauve", np.random.default_rng(0)), "mauve"),
        (lambda: ground_tile("lava", 0), "lava"),
        (lambda: backdrop_tile("void", 0), "void"),
        (lambda: SyntheticCamera(0, height=0), "0 x 640"),
        (lambda: SyntheticCamera(0, rate_hz=0), "rate_hz .* 0"),
        (lambda: SyntheticCamera(0, samples=9), "samples .* 9"),
        (lambda: SyntheticCamera(0).frame(-1), "-1"),
    ],
)
def test_bad_arguments_name_the_value(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
