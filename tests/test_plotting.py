"""Displays: what they draw, that nothing overlaps, and what they refuse."""

import ast
import pickle
import re
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from conftest import FAST
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skcsflow import CSFlowDetector, plotting
from skcsflow._images import check_images, image_size
from skcsflow.datasets import read_mask
from skcsflow.plotting import AnomalyMapDisplay, HistoryDisplay, RocByKindDisplay, ScoreHistogramDisplay
from skcsflow.plotting._images import file_names, read_images, resize_map, resize_mask
from skcsflow.plotting._layout import fit_text, plan_layout
from skcsflow.plotting._overlay import shared_norm

MINUS = "\N{MINUS SIGN}"


@pytest.fixture(autouse=True)
def no_windows():
    """Draw without a screen, and leave no figure open."""
    before = mpl.get_backend()
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
    mpl.use(before)


@pytest.fixture(scope="module")
def scored():
    """Labels, kinds and scores of 60 images, half of them defects that overlap with the normal ones."""
    rng = np.random.RandomState(0)
    y = np.repeat([1, -1], 30)
    kinds = np.array(["good"] * 30 + ["crack", "missing_part", "spot"] * 10)
    scores = -np.exp(rng.normal(np.where(y == 1, -0.5, 0.4), 0.4))
    return y, kinds, scores


@pytest.fixture
def idle(fitted_copy):
    """A fitted detector that must not be asked for anything that takes a pass over the images."""

    def score(X):
        raise AssertionError("the images were scored")

    vars(fitted_copy).update(transform=score, score_samples=score, predict=score, iter_maps=score)
    return fitted_copy


def files(folder, images, names):
    """Paths of images that are written to a folder."""
    paths = [folder / name for name in names]
    for path, image in zip(paths, images, strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return paths


def title_texts(display):
    return [panels[0].get_title() for panels in display.axes_]


def pictures(n, size=(24, 30)):
    """Images, maps and masks; every second mask is empty."""
    rng = np.random.RandomState(0)
    masks = np.zeros((n, *size), dtype=bool)
    masks[1::2, 5:12, 6:20] = True
    maps = rng.lognormal(size=(n, *size)) + 50 * masks
    return rng.randint(256, size=(n, *size, 3)).astype(np.uint8), maps.astype(np.float32), masks


def overlaps(texts):
    """Pairs of texts whose boxes overlap on a figure that is drawn."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    return [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)]


def texts_of(*axes):
    """All texts of axes: titles, labels, legends, and of the ticks those that lie within view."""
    axes[0].figure.draw_without_rendering()
    texts = []
    for ax in axes:
        texts += [
            ax.title,
            ax.xaxis.label,
            ax.yaxis.label,
            *(ax.get_legend().texts if ax.get_legend() else []),
        ]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            texts += [
                label
                for tick in ticks
                if low <= tick.get_loc() <= high
                for label in (tick.label1, tick.label2)
            ]
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


# Anomaly maps


@pytest.mark.parametrize(("n", "panels"), [(1, 2), (3, 2), (7, 1)])
def test_number_of_axes(n, panels):
    images, maps, masks = pictures(n)
    display = AnomalyMapDisplay.from_maps(images, maps, masks=masks, map_threshold=20.0)
    assert display.axes_.shape == (n, panels)
    assert len(display.figure_.axes) == n * panels + 1  # and the colour bar
    assert len(display.overlays_) == len(display.mask_contours_) == len(display.map_contours_) == n
    assert len(display.images) == len(display.maps) == len(display.masks) == n
    assert display.scores is None
    assert display.map_threshold == 20.0


def test_one_colour_scale_for_all_images():
    images, maps, _ = pictures(9)
    display = AnomalyMapDisplay.from_maps(images, maps)
    assert {id(overlay.norm) for overlay in display.overlays_} == {id(display.norm_)}
    assert display.colorbar_.mappable.norm is display.norm_
    np.testing.assert_allclose(
        [display.norm_.vmin, display.norm_.vmax], np.percentile(maps, [50, 99.5]), rtol=1e-6
    )
    assert isinstance(display.norm_, mpl.colors.LogNorm)


def test_maps_that_are_not_positive_get_a_linear_scale():
    images, maps, _ = pictures(3)
    display = AnomalyMapDisplay.from_maps(images, maps - 5)
    assert not isinstance(display.norm_, mpl.colors.LogNorm)
    assert display.norm_.vmin < 0


@pytest.mark.parametrize("shift", [0.0, -5.0])  # a logarithmic and a linear scale
def test_threshold_lies_in_the_middle_of_the_scale(shift):
    _, maps, _ = pictures(3)
    for threshold in (0.3, 5.0, 1000.0):
        norm = shared_norm(maps + shift, threshold + shift, None, None)
        assert 0.399 <= norm(threshold + shift) <= 0.501


def test_scale_is_as_asked():
    images, maps, _ = pictures(2)
    display = AnomalyMapDisplay.from_maps(images, maps, vmin=0.5, vmax=7.0)
    assert (display.norm_.vmin, display.norm_.vmax) == (0.5, 7.0)
    norm = mpl.colors.Normalize(0, 3)
    assert AnomalyMapDisplay.from_maps(images, maps, norm=norm).overlays_[1].norm is norm


def test_scale_of_no_width_is_refused():
    images, maps, _ = pictures(2)
    for vmin, vmax in ((5.0, 1.0), (2.0, 2.0)):
        with pytest.raises(ValueError, match=f"vmin must be below vmax, got vmin={vmin} and vmax={vmax}"):
            AnomalyMapDisplay.from_maps(images, maps, vmin=vmin, vmax=vmax)


def test_colour_bar_has_plain_numbers():
    images, maps, _ = pictures(2)
    for vmin, vmax, some in ((0.3, 8.0, {"0.4", "1", "6"}), (300.0, 8000.0, {"1000", "3000"})):
        display = AnomalyMapDisplay.from_maps(images, maps, vmin=vmin, vmax=vmax)
        display.figure_.draw_without_rendering()
        axis = display.colorbar_.ax.yaxis
        labels = [text.get_text() for text in [*axis.get_majorticklabels(), *axis.get_minorticklabels()]]
        shown = [label for label in labels if label]
        assert some <= set(shown)
        assert all(re.fullmatch(r"\d+(\.\d+)?", label) for label in shown)


def test_a_figure_goes_into_a_pickle():
    images, maps, _ = pictures(2)
    assert pickle.loads(pickle.dumps(AnomalyMapDisplay.from_maps(images, maps).figure_)).axes


@pytest.mark.parametrize("n_columns", [0, -1])
def test_no_columns_are_refused(n_columns):
    images, maps, _ = pictures(2)
    with pytest.raises(ValueError, match=f"n_columns must be an int of 1 or more, got {n_columns}"):
        AnomalyMapDisplay.from_maps(images, maps, n_columns=n_columns)


def test_masks_of_files_are_read_as_read_mask_does(tmp_path):
    images, maps, masks = pictures(2)
    Image.fromarray((255 * masks[1]).astype(np.uint8)).save(tmp_path / "mask.jpg", quality=40)
    np.save(tmp_path / "mask.npy", masks[1])
    for name in ("mask.jpg", "mask.npy"):
        display = AnomalyMapDisplay.from_maps(images, maps, masks=[None, tmp_path / name])
        np.testing.assert_array_equal(display.masks[1], masks[1])


def test_masks_of_leading_dimension_one_are_taken_and_nan_is_not():
    images, maps, masks = pictures(2)
    display = AnomalyMapDisplay.from_maps(images, maps, masks=masks[:, None])
    np.testing.assert_array_equal(display.masks, masks)
    faulty = masks.astype(float)
    faulty[1, 3, 3] = np.nan
    with pytest.raises(ValueError, match=r"masks\[1\] contains NaN"):
        AnomalyMapDisplay.from_maps(images, maps, masks=faulty)


def test_maps_that_are_the_same_everywhere_are_drawn():
    display = AnomalyMapDisplay.from_maps(np.zeros((2, 20, 20)), np.ones((2, 20, 20)), map_threshold=1.0)
    assert display.norm_.vmax > display.norm_.vmin


def test_outlines_only_where_something_is_marked():
    images, maps, masks = pictures(4)
    display = AnomalyMapDisplay.from_maps(images, maps, masks=masks, map_threshold=40.0)
    assert [contour is not None for contour in display.mask_contours_] == masks.any(axis=(1, 2)).tolist()
    marked = (maps > 40).any(axis=(1, 2))
    assert [contour is not None for contour in display.map_contours_] == marked.tolist()
    assert [text.get_text() for text in display.figure_.legends[0].texts] == [
        "true mask",
        "predicted mask",
    ]


@pytest.mark.slow
def test_predicted_masks_are_outlined_in_place_of_all_above_the_threshold():
    images, maps, masks = pictures(2)
    display = AnomalyMapDisplay.from_maps(images, maps, map_threshold=0.0, predicted_masks=masks)
    np.testing.assert_array_equal(display.predicted_masks, masks)
    assert [contour is not None for contour in display.map_contours_] == [False, True]


def test_predicted_masks_of_another_number_than_images_raise():
    images, maps, masks = pictures(2)
    with pytest.raises(ValueError, match="predicted_masks"):
        AnomalyMapDisplay.from_maps(images, maps, predicted_masks=masks[:1])


def test_outline_encloses_the_mask_and_leaves_the_view_alone():
    images, maps, masks = pictures(2)
    masks[1] = True  # up to the image's edge
    display = AnomalyMapDisplay.from_maps(images, maps, masks=masks)
    vertices = np.concatenate([path.vertices for path in display.mask_contours_[1].get_paths()])
    np.testing.assert_array_equal(vertices.min(axis=0), [-0.5, -0.5])
    np.testing.assert_array_equal(vertices.max(axis=0), [29.5, 23.5])
    assert display.axes_[1, -1].get_xlim() == (-0.5, 29.5)
    assert display.axes_[1, -1].get_ylim() == (23.5, -0.5)


def test_nothing_marked_no_legend():
    images, maps, _ = pictures(2)
    display = AnomalyMapDisplay.from_maps(images, maps, masks=[None, np.zeros((24, 30))], map_threshold=1e6)
    assert display.figure_.legends == []
    assert display.mask_contours_ == display.map_contours_ == [None, None]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 24), (10, 60), (60, 12)], ids=["square", "wide", "tall"])
@pytest.mark.parametrize("n", [1, 9])
def test_no_text_overlaps(n, size):
    check_no_overlap(n, size)


@pytest.mark.slow
def test_no_text_overlaps_among_many_images():
    assert check_no_overlap(40, (24, 24)).axes_.shape == (40, 1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 24), (10, 60), (60, 12)], ids=["square", "wide", "tall"])
@pytest.mark.parametrize("n", [1, 8, 20])
def test_no_text_overlaps_among_pairs_with_titles(n, size):
    titles = [f"a/rather/long/path/of/the/kind/that/cameras/choose/{i:06d}.png" for i in range(n)]
    assert check_no_overlap(n, size, show_images=True, titles=titles).axes_.shape == (n, 2)


def check_no_overlap(n, size, **params):
    images, maps, _ = pictures(n, size)
    masks = np.zeros((n, *size), dtype=bool)
    masks[:, :4, :4] = True
    display = AnomalyMapDisplay.from_maps(
        images,
        maps,
        masks=masks,
        y=np.full(n, -1),
        kinds=["a kind of defect with a rather long name"] * n,
        scores=np.linspace(-3000, -1, n),
        threshold=-1000.0,
        map_threshold=3.0,
        **params,
    )
    titles = [panels[0].title for panels in display.axes_]
    assert all(title.get_text() for title in titles)
    assert len(display.figure_.axes) == display.axes_.size + 1  # and the colour bar, with its label and ticks
    texts = [*titles, *texts_of(display.colorbar_.ax), *display.figure_.legends[0].texts]
    assert len(texts) > n + 3
    assert overlaps(texts) == []
    page = display.figure_.bbox
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()
    panels = [panel.get_window_extent() for panel in display.axes_.ravel()]
    for title in titles:  # nor a title another image
        assert title.get_window_extent().count_overlaps(panels) == 0
    return display


def test_overlapping_text_would_be_found():
    figure = mpl.figure.Figure()
    texts = [figure.text(0.5, 0.5, "one"), figure.text(0.51, 0.5, "two"), figure.text(0.1, 0.1, "three")]
    assert overlaps(texts) == [("two", "one")]


def test_text_that_does_not_fit_is_made_smaller_then_cut():
    assert fit_text([["short"]], 2.0, 9.0) == (["short"], 9.0)
    (text,), size = fit_text([["twenty-one characters"]], 1.3, 9.0)
    assert text == "twenty-one characters"
    assert 6 < size < 9
    (text,), size = fit_text([["forty-one characters of text, at the least"]], 1.0, 9.0)
    start, end = text.split("…")
    assert "forty-one characters of text, at the least".startswith(start)
    assert "forty-one characters of text, at the least".endswith(end)
    assert 0 <= len(start) - len(end) <= 2
    assert len(text) > 15
    assert size == 6


def test_text_is_cut_to_the_width_and_no_further():
    from skcsflow.plotting._layout import _text_width

    for line in ("W" * 60, "i" * 200, "a b " * 30, "0123456789" * 9):
        for width in (0.5, 1.15, 2.0):
            (text,), size = fit_text([[line]], width, 9.0)
            assert _text_width(text, size) <= 72 * width
            longer = line[: len(text) // 2 + 2] + "…" + line[len(line) - len(text) // 2 - 1 :]
            assert _text_width(longer, size) > 72 * width
    assert fit_text([["abc"]], 0.01, 9.0)[0] == ["…"]


def test_titles_name_outcome_and_score():
    images, maps, _ = pictures(4)
    given = {"scores": [-0.1, -2.0, -0.2, -3.0], "y": [1, 1, -1, -1], "threshold": -1.0}
    display = AnomalyMapDisplay.from_maps(images, maps, **given)
    titles = [panels[0].get_title() for panels in display.axes_]
    assert titles == [
        f"normal: passed\nscore {MINUS}0.100",
        f"normal: false alarm\nscore {MINUS}2.000",
        f"defective: missed\nscore {MINUS}0.200",
        f"defective: found\nscore {MINUS}3.000",
    ]
    colours = [panels[0].title.get_color() for panels in display.axes_]
    assert colours[0] == colours[3] != colours[1] == colours[2]
    display = AnomalyMapDisplay.from_maps(images, maps, y_pred=[1, -1, 1, -1], kinds=["$a", "b", "c", "d"])
    titles = [panels[0].get_title() for panels in display.axes_]
    assert titles == ["$a: normal", "b: defective", "c: normal", "d: defective"]


def test_titles_come_first():
    images, maps, _ = pictures(2)
    given = {"scores": [-0.1, -2.0], "y": [1, -1], "threshold": -1.0, "kinds": ["good", "crack"]}
    display = AnomalyMapDisplay.from_maps(images, maps, titles=["part 7", "$part 8"], **given)
    assert title_texts(display) == [
        f"part 7\ngood: passed\nscore {MINUS}0.100",
        f"$part 8\ncrack: found\nscore {MINUS}2.000",
    ]
    assert display.titles == ["part 7", "$part 8"]
    for titles in (np.array(["a", "b"]), pd.Series(["a", "b"], index=[5, 6]), ("a", "b")):
        assert title_texts(AnomalyMapDisplay.from_maps(images, maps, titles=titles)) == ["a", "b"]
    display = AnomalyMapDisplay.from_maps(images, maps, titles=["two\nlines", ""])
    assert title_texts(display) == ["two\nlines", ""]


def test_file_names_are_titles(tmp_path):
    images, maps, _ = pictures(2)
    paths = files(tmp_path, images, ["one.png", "two.png"])
    strings = [str(path) for path in paths]
    for X in (
        paths,
        strings,
        np.array(strings),
        np.array(paths, dtype=object),
        pd.Series(strings, index=[3, 4]),
        pd.DataFrame({"path": strings}),
        str(tmp_path),
        tmp_path,
    ):
        display = AnomalyMapDisplay.from_maps(X, maps, y=[1, -1])
        assert title_texts(display) == ["one.png\nnormal", "two.png\ndefective"]
    assert display.titles == ["one.png", "two.png"]
    assert title_texts(AnomalyMapDisplay.from_maps(paths, maps, titles=["a", ""])) == ["a", ""]


def test_images_without_names_have_no_titles():
    images, maps, _ = pictures(2)
    for X in (images, list(images), [Image.fromarray(image) for image in images]):
        display = AnomalyMapDisplay.from_maps(X, maps)
        assert display.titles is None
        assert title_texts(display) == ["", ""]


def test_file_names_that_occur_twice_have_their_folder(tmp_path):
    images, maps, _ = pictures(3)
    paths = files(tmp_path, images, ["good/000.png", "crack/000.png", "crack/001.png"])
    display = AnomalyMapDisplay.from_maps(paths, maps)
    assert title_texts(display) == ["good/000.png", "crack/000.png", "crack/001.png"]
    assert file_names(paths[1:]) == ["000.png", "001.png"]


def test_file_names_that_are_not_text_are_drawn(tmp_path):
    images, maps, _ = pictures(1)
    (path,) = files(tmp_path, images, ["odd.png"])
    try:
        odd = path.rename(tmp_path / b"o\xe9dd.png".decode("utf-8", "surrogateescape"))
    except OSError:
        pytest.skip("no such file names here")
    display = AnomalyMapDisplay.from_maps([odd], maps)
    display.figure_.draw_without_rendering()
    assert title_texts(display) == ["o?dd.png"]


@pytest.mark.slow
def test_long_titles_keep_their_ends():
    images, maps, _ = pictures(20)
    names = [f"station-3_2026-10-04_camera-left_lot-4711_exposure-{i:04d}.png" for i in range(20)]
    display = AnomalyMapDisplay.from_maps(images, maps, titles=names)
    for text, name in zip(title_texts(display), names, strict=True):
        start, end = text.split("…")
        assert name.startswith(start)
        assert name.endswith(end)
        assert len(end) >= len("0000.png")
    assert display.titles == names


@pytest.mark.parametrize(
    ("titles", "message"),
    [
        (["a"], "titles has length 1, but images has length 2"),
        ("ab", r"titles must have shape \(n,\), got shape \(\)"),
        ([["a"], ["b"]], r"titles must have shape \(n,\), got shape \(2, 1\)"),
    ],
)
def test_titles_that_do_not_fit_are_refused(titles, message):
    images, maps, _ = pictures(2)
    with pytest.raises(ValueError, match=message):
        AnomalyMapDisplay.from_maps(images, maps, titles=titles)


@pytest.mark.slow
def test_images_of_mixed_sizes_and_maps_of_any_size():
    rng = np.random.RandomState(0)
    sizes = [(20, 30), (40, 16), (25, 25)]
    images = [rng.randint(256, size=size).astype(np.uint8) for size in sizes]
    maps = np.empty(3, dtype=object)  # what map_size="image" gives
    maps[:] = [rng.lognormal(size=size).astype(np.float32) for size in sizes]
    for given in (maps, rng.lognormal(size=(3, 8, 8)), list(maps), torch.ones(3, 1, 8, 8)):
        display = AnomalyMapDisplay.from_maps(images, given, masks=[None, np.eye(8), None])
        assert [overlay.get_array().shape for overlay in display.overlays_] == sizes
        assert [contour is not None for contour in display.mask_contours_] == [False, True, False]


def test_draws_on_given_axes():
    import matplotlib.pyplot as plt

    images, maps, masks = pictures(3)
    figure, axes = plt.subplots(1, 3)
    display = AnomalyMapDisplay.from_maps(images, maps, masks=masks, ax=axes)
    assert display.figure_ is figure
    assert [panels[0] for panels in display.axes_] == axes.tolist()
    assert axes[0].get_legend() is not None
    with pytest.raises(ValueError, match="ax has length 2, but images has length 3"):
        display.plot(axes[:2])


def test_titles_of_a_row_are_level_where_images_differ_in_shape():
    images = [np.zeros(size, dtype=np.uint8) for size in ((30, 30), (10, 30), (30, 8))]
    display = AnomalyMapDisplay.from_maps(images, images, titles=["a"] * 3)
    display.figure_.draw_without_rendering()
    heights = [panels[0].title.get_window_extent().y0 for panels in display.axes_]
    assert heights == pytest.approx([heights[0]] * 3)


@pytest.mark.parametrize("aspect", [0.2, 0.5, 1.0, 1.3, 1.5, 3.0, 8.0])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 20, 33])
@pytest.mark.parametrize("show_images", [False, True])
def test_panels_have_places_of_their_own(show_images, n, aspect):
    layout = plan_layout(
        n, aspect, show_images=show_images, n_columns=8, n_lines=3, text_size=9.0, has_legend=True
    )
    width, height = layout.size
    assert width <= 14
    panels = np.array(layout.panels())  # (n, 1 or 2, left bottom width height)
    assert panels.shape == (n, 1 + show_images, 4)
    boxes = panels * [width, height, width, height]
    boxes[..., 2:] += boxes[..., :2]
    first = boxes[:, 0]
    titles = np.stack([first[:, 0], first[:, 3], first[:, 2], first[:, 3] + layout.title], axis=-1)
    left, bottom, bar_width, bar_height = np.array(layout.bar()) * [width, height, width, height]
    every = np.concatenate(
        [boxes.reshape(-1, 4), titles, [[left, bottom, left + bar_width, bottom + bar_height]]]
    )
    assert (every[:, :2] > 0).all()
    assert (every[:, 2:] < [width, height]).all()
    assert (every[:, 1] > layout.legend).all()
    for i, box in enumerate(every):
        others = np.delete(every, i, axis=0)
        apart = (others[:, :2] >= box[2:] - 1e-9) | (others[:, 2:] <= box[:2] + 1e-9)
        assert apart.any(axis=1).all()


@pytest.mark.slow
def test_pairs_of_many_images_fill_rows():
    heights = []
    for n, n_columns, in_first_row in ((6, 8, 6), (8, 8, 4), (20, 8, 5), (20, 3, 3)):
        images, maps, _ = pictures(n)
        display = AnomalyMapDisplay.from_maps(images, maps, show_images=True, n_columns=n_columns)
        assert display.axes_.shape == (n, 2)
        tops = np.array([panels[0].get_position().y1 for panels in display.axes_])
        assert np.isclose(tops, tops[0]).sum() == in_first_row
        for image_panel, overlay in display.axes_:  # above its overlay
            assert image_panel.get_position().y0 > overlay.get_position().y1
            assert image_panel.get_position().x0 == pytest.approx(overlay.get_position().x0)
        heights.append(display.figure_.get_size_inches()[1])
    assert heights == sorted(heights)
    assert heights[-1] > 2 * heights[0]


def test_max_images_shows_the_first():
    images, maps, masks = pictures(5)
    given = {
        "masks": masks,
        "y": [1, -1, 1, -1, 1],
        "kinds": list("abcde"),
        "scores": [-0.1, -2.0, -0.2, -3.0, -1.0],
        "y_pred": [1, -1, 1, -1, 1],
        "titles": list("ABCDE"),
    }
    display = AnomalyMapDisplay.from_maps(images, maps, max_images=2, **given)
    np.testing.assert_array_equal(display.images, images[:2])
    np.testing.assert_array_equal(display.maps, maps[:2])
    np.testing.assert_array_equal(display.masks, masks[:2])
    assert title_texts(display) == [
        f"A\na: passed\nscore {MINUS}0.100",
        f"B\nb: found\nscore {MINUS}2.000",
    ]
    assert AnomalyMapDisplay.from_maps(images, maps, max_images=9, **given).axes_.shape == (5, 2)
    for name in given:  # what is left out must fit too
        with pytest.raises(ValueError, match=f"{name} has length 4"):
            AnomalyMapDisplay.from_maps(images, maps, max_images=2, **given | {name: given[name][:4]})


@pytest.mark.parametrize("max_images", [0, -3, 2.0, "all", True])
def test_faulty_max_images_are_refused(max_images, idle, grey_images):
    message = f"max_images must be None or an int of 1 or more, got {max_images!r}"
    with pytest.raises(ValueError, match=message):
        AnomalyMapDisplay.from_maps(grey_images[:3], grey_images[:3], max_images=max_images)
    with pytest.raises(ValueError, match=message):
        AnomalyMapDisplay.from_estimator(idle, grey_images[:3], max_images=max_images)


@pytest.mark.parametrize("form", ["array", "list", "tuple", "paths", "Series", "DataFrame", "rows", "tensor"])
def test_only_images_that_are_shown_are_scored(form, fitted_copy, grey_images, tmp_path, monkeypatch):
    X = grey_images[:5]
    if form in ("paths", "Series", "DataFrame"):
        paths = [str(path) for path in files(tmp_path, X, [f"{i}.png" for i in range(5)])]
        X = {"paths": paths, "Series": pd.Series(paths), "DataFrame": pd.DataFrame({"path": paths})}[form]
    elif form == "rows":
        X = X.reshape(5, -1)
        fitted_copy.image_shape = fitted_copy.image_shape_ = (48, 40)
    else:
        X = {"array": X, "list": list(X), "tuple": tuple(X), "tensor": torch.from_numpy(X)[:, None]}[form]
    lengths = []
    for name in ("transform", "score_samples"):
        method = getattr(fitted_copy, name)
        monkeypatch.setattr(
            fitted_copy, name, lambda X, method=method: (lengths.append(len(X)), method(X))[1], raising=False
        )
    masks = [None, np.ones((48, 40)), None, None, None]
    display = AnomalyMapDisplay.from_estimator(
        fitted_copy, X, [1, -1, 1, 1, 1], masks=masks, kinds=list("abcde"), max_images=2
    )
    assert lengths == [2, 2]
    np.testing.assert_array_equal(display.images, grey_images[:2])
    assert display.kinds == ["a", "b"]
    assert display.y.tolist() == [False, True]
    assert [mask is None for mask in display.masks] == [True, False]
    assert display.titles == (["0.png", "1.png"] if form in ("paths", "Series", "DataFrame") else None)


def test_plot_returns_the_display_and_can_be_repeated():
    images, maps, _ = pictures(3)
    display = AnomalyMapDisplay.from_maps(images, maps)
    assert display.plot(show_images=False, n_columns=2) is display
    assert display.axes_.shape == (3, 1)


def test_from_estimator_shows_what_the_detector_says(fitted, grey_images):
    X, y = grey_images[:3], [1, -1, 1]
    display = AnomalyMapDisplay.from_estimator(fitted, X, y, masks=np.ones((3, 48, 40)))
    np.testing.assert_array_equal(display.maps, fitted.transform(X))
    np.testing.assert_array_equal(display.scores, fitted.score_samples(X))
    np.testing.assert_array_equal(display.y_pred, fitted.predict(X))
    np.testing.assert_array_equal(display.images, X)
    assert display.map_threshold == getattr(fitted, "map_threshold_", None)
    if display.map_threshold is not None:
        np.testing.assert_array_equal(display.predicted_masks, fitted.predict_masks(X))
    assert display.y.tolist() == [False, True, False]


def test_from_estimator_has_titles(fitted, grey_images, tmp_path):
    paths = files(tmp_path, grey_images[:2], ["one.png", "two.png"])
    display = AnomalyMapDisplay.from_estimator(fitted, paths)
    assert [text.split("\n")[0] for text in title_texts(display)] == ["one.png", "two.png"]
    display = AnomalyMapDisplay.from_estimator(fitted, str(tmp_path), titles=["a", "b"])
    assert [text.split("\n")[0] for text in title_texts(display)] == ["a", "b"]
    np.testing.assert_array_equal(display.images, grey_images[:2])


@pytest.mark.slow
@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("form", ["images", "rows", "paths"])
def test_from_estimator_where_scikit_learn_is_set_to_give_tables(
    form, library, fitted_copy, grey_images, tmp_path
):
    pytest.importorskip(library)
    X = grey_images[:2]
    if form == "rows":
        X = X.reshape(2, -1)
        fitted_copy.image_shape = fitted_copy.image_shape_ = (48, 40)
    elif form == "paths":
        X = files(tmp_path, X, ["one.png", "two.png"])
    expected = AnomalyMapDisplay.from_estimator(fitted_copy, X)
    with sklearn.config_context(transform_output=library):
        display = AnomalyMapDisplay.from_estimator(fitted_copy, X)
    np.testing.assert_array_equal(display.maps, expected.maps)


@pytest.mark.parametrize(
    ("display", "given", "message"),
    [
        (
            AnomalyMapDisplay,
            {"colour": 1},
            r"'colour'.* kinds, titles, max_images, .*ax, show_images, n_columns, ",
        ),
        (AnomalyMapDisplay, {"title": ["a"]}, "'title'"),
        (
            ScoreHistogramDisplay,
            {"nbins": 5},
            r"^ScoreHistogramDisplay.from_.*'nbins'.* kinds, .*ax, bins\.$",
        ),
        (RocByKindDisplay, {"color": "red"}, r"^RocByKindDisplay.from_.*'color'.* kinds, name, ax\.$"),
        (HistoryDisplay, {"axes": None}, r"HistoryDisplay.from_estimator .*'axes'.* are estimator, ax\.$"),
    ],
)
def test_unknown_keywords_are_refused_before_anything_is_scored(display, given, message, idle, grey_images):
    args = () if display is HistoryDisplay else (grey_images[:2], [1, -1])
    with pytest.raises(TypeError, match=message):
        display.from_estimator(idle, *args, **given)
    if display is AnomalyMapDisplay:
        with pytest.raises(TypeError, match=message):
            display.from_maps(grey_images[:2], grey_images[:2], **given)
    elif display is not HistoryDisplay:
        with pytest.raises(TypeError, match=message):
            display.from_predictions([1, -1], [0.0, 1.0], **given)


@pytest.mark.parametrize(
    ("display", "given", "message"),
    [
        (AnomalyMapDisplay, {"n_columns": 0}, "n_columns must be an int of 1 or more, got 0"),
        (AnomalyMapDisplay, {"vmin": 2.0, "vmax": 1.0}, "vmin must be below vmax"),
        (AnomalyMapDisplay, {"cmap": "infernal"}, "cmap.*'infernal'"),
        (AnomalyMapDisplay, {"alpha": 85}, "alpha must be a number from 0 to 1, got 85"),
        (AnomalyMapDisplay, {"ax": [None]}, "ax has length 1, but images has length 2"),
        (AnomalyMapDisplay, {"titles": ["a"]}, "titles has length 1, but X has length 2"),
        (AnomalyMapDisplay, {"kinds": ["a"]}, "kinds has length 1, but X has length 2"),
        (AnomalyMapDisplay, {"masks": [None]}, "masks has length 1, but X has length 2"),
        (AnomalyMapDisplay, {"y": [1, -1, 1]}, "y has length 3, but X has length 2"),
        (AnomalyMapDisplay, {"y": ["ok", "bad"]}, "got 'ok', 'bad'"),
        (ScoreHistogramDisplay, {"bins": 0}, "bins must be an int of 1 or more, got 0"),
        (ScoreHistogramDisplay, {"y": ["ok", "bad"]}, "got 'ok', 'bad'"),
        (ScoreHistogramDisplay, {"y": [1, -1], "kinds": ["a"]}, "kinds has length 1, but y has length 2"),
        (ScoreHistogramDisplay, {"kinds": ["a", "b"]}, "kinds need y"),
        (ScoreHistogramDisplay, {"y": [1, -1, 1]}, "y has length 3, but X has length 2"),
        (RocByKindDisplay, {"y": [1, 1]}, "y holds only normal images"),
        (RocByKindDisplay, {"y": [1, -1], "kinds": ["a"]}, "kinds has length 1, but y has length 2"),
        (RocByKindDisplay, {"y": [1, -1, 1]}, "y has length 3, but X has length 2"),
    ],
)
def test_faulty_values_are_refused_before_anything_is_scored(display, given, message, idle, grey_images):
    with pytest.raises(ValueError, match=message):
        display.from_estimator(idle, grey_images[:2], **given)


def test_from_estimator_at_the_end_of_a_pipeline(fitted, grey_images):
    pipeline = make_pipeline(FunctionTransformer(), fitted)
    display = AnomalyMapDisplay.from_estimator(pipeline, grey_images[:2])
    np.testing.assert_array_equal(display.y_pred, fitted.predict(grey_images[:2]))


def test_from_estimator_takes_rows_and_mixed_sizes(fitted, grey_images, tiny_params):
    tiny_params |= {"image_shape": (48, 40), "n_epochs": 1}
    rows = grey_images[:8].reshape(8, -1)
    display = AnomalyMapDisplay.from_estimator(CSFlowDetector(**tiny_params).fit(rows), rows[:2])
    np.testing.assert_array_equal(display.images, grey_images[:2])
    assert [m.shape for m in display.maps] == [(48, 40)] * 2
    mixed = [grey_images[0], grey_images[1][:40]]
    display = AnomalyMapDisplay.from_estimator(fitted, mixed)
    assert [overlay.get_array().shape for overlay in display.overlays_] == [(48, 40), (40, 40)]


def test_from_estimator_unfitted(grey_images, tiny_params):
    for display in (AnomalyMapDisplay, ScoreHistogramDisplay, RocByKindDisplay):
        with pytest.raises(NotFittedError):
            display.from_estimator(CSFlowDetector(**tiny_params), grey_images[:2], [1, -1])
    with pytest.raises(NotFittedError):
        HistoryDisplay.from_estimator(CSFlowDetector(**tiny_params))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"maps": np.ones((2, 4, 4))}, "maps has length 2, but images has length 3"),
        ({"masks": np.ones((4, 4, 4))}, "masks has length 4, but images has length 3"),
        ({"scores": [1.0]}, "scores has length 1"),
        ({"kinds": ["a"]}, "kinds has length 1"),
        ({"y": [1, -1]}, "y has length 2"),
        ({"y": [1, -1, 3]}, ", 3"),
        ({"y_pred": [1, -1, 0]}, "y_pred must hold .* got 0 at row 2"),
        ({"scores": [1.0, np.nan, 2.0]}, "scores must be finite, but is nan at row 1.*leave such images out"),
        ({"maps": [np.ones((4, 4)), np.ones(4), np.ones((4, 4))]}, r"maps\[1\] has shape \(4,\)"),
        (
            {"maps": [np.ones((4, 4)), np.full((4, 4), np.nan), np.ones((4, 4))]},
            r"maps\[1\] contains NaN.*on_error=\"nan\"",
        ),
        ({"images": np.ones((3, 16))}, "reshape them"),
        ({"images": []}, "no images"),
    ],
)
def test_from_maps_refuses(given, message):
    images, maps, _ = pictures(3)
    with pytest.raises(ValueError, match=message):
        AnomalyMapDisplay.from_maps(**({"images": images, "maps": maps} | given))


# Images


def test_images_of_every_form_read_the_same(tmp_path):
    rgb = np.random.RandomState(0).randint(256, size=(2, 12, 16, 3)).astype(np.uint8)
    paths = []
    for i, image in enumerate(rgb):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    np.save(tmp_path / "0.npy", rgb[0])
    objects = np.empty(2, dtype=object)
    objects[:] = list(rgb)
    alpha = np.concatenate([rgb, rgb[..., :1]], axis=-1)
    channels_first = torch.from_numpy(rgb).movedim(-1, 1)
    for X in (
        rgb,
        rgb / 255,
        rgb.astype(np.uint16) * 257,
        list(rgb),
        objects,
        alpha,
        paths,
        [str(path) for path in paths],
        [tmp_path / "0.npy", paths[1]],
        pd.Series(paths),
        pd.DataFrame({"path": [str(path) for path in paths]}),
        [Image.fromarray(image) for image in rgb],
        channels_first,
        channels_first / 255,
        list(channels_first),
    ):
        np.testing.assert_array_equal(read_images(X), rgb)


def test_files_have_the_same_pixels_for_detector_plots_and_data_sets(tmp_path):
    rng = np.random.RandomState(0)
    rgb = rng.randint(256, size=(12, 16, 3)).astype(np.uint8)
    rgb[:4] = 0
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(tmp_path / "16-bit.png")
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    Image.fromarray(rgb).quantize(17).save(tmp_path / "palette.png")
    with Image.open(tmp_path / "cmyk.jpg") as cmyk, Image.open(tmp_path / "palette.png") as palette:
        assert (cmyk.mode, palette.mode) == ("CMYK", "P")
        expected = {
            "16-bit.png": rgb[..., 0].astype(np.uint16) * 257,
            "cmyk.jpg": np.asarray(cmyk.convert("RGB")),
            "palette.png": np.asarray(palette.convert("RGB")),
        }
    for name, pixels in expected.items():
        path = tmp_path / name
        seen = check_images([path], 3)[0].numpy()
        channels_last = np.broadcast_to(np.atleast_3d(pixels), (12, 16, 3))
        np.testing.assert_array_equal(seen, np.moveaxis(channels_last, -1, 0))
        assert seen.dtype == pixels.dtype
        (shown,) = read_images([path])
        np.testing.assert_array_equal(shown, pixels // (257 if pixels.dtype == np.uint16 else 1))
        assert image_size(path) == (12, 16)
        is_marked = np.atleast_3d(pixels).max(axis=-1) > (127 if name == "cmyk.jpg" else 0)
        np.testing.assert_array_equal(read_mask(path), is_marked)


def test_grey_many_channels_and_floats_beyond_one():
    grey = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    np.testing.assert_array_equal(read_images(grey[..., None]), grey)
    np.testing.assert_array_equal(read_images(np.repeat(grey[..., None], 7, axis=-1)), grey)
    stretched = read_images(grey.astype(float) - 20)[0]
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert read_images(np.full((1, 4, 4), 7.0))[0].max() == 0
    assert read_images(np.eye(4, dtype=bool)[None])[0].max() == 255


def test_large_images_are_kept_small():
    assert read_images(np.zeros((1, 1000, 2000), dtype=np.uint8))[0].shape == (384, 768)


def test_images_that_can_not_be_read_are_named(tmp_path):
    (tmp_path / "no.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"X\[0\] .*no.png.* could not be read"):
        read_images([tmp_path / "no.png"])
    with pytest.raises(ValueError, match=r"X\[1\] contains NaN"):
        read_images([np.ones((3, 3)), np.full((3, 3), np.inf)])
    with pytest.raises(ValueError, match=r"X\[0\] has shape \(2, 3, 4, 5\)"):
        read_images([np.ones((2, 3, 4, 5))])
    with pytest.raises(ValueError, match="tensor of images must have shape"):
        read_images(torch.ones(3, 4, 4))


def test_thin_masks_survive_shrinking():
    mask = np.zeros((500, 400), dtype=bool)
    mask[:, 123] = True
    assert resize_mask(mask, (50, 40)).any(axis=1).all()
    small = np.zeros((4, 4), dtype=bool)
    small[1, 2] = True
    np.testing.assert_array_equal(resize_mask(small, (8, 8)), np.kron(small, np.ones((2, 2))) > 0)


def test_maps_are_resized_by_pixel_centres():
    ramp = np.tile(np.arange(8, dtype=np.float32), (8, 1))
    large = resize_map(ramp, (16, 32))
    assert large.shape == (16, 32)
    np.testing.assert_allclose(large[5, 4:-4], ((np.arange(32) + 0.5) / 4 - 0.5)[4:-4], rtol=1e-5)


# Histograms


@pytest.mark.parametrize("with_kinds", [False, True])
@pytest.mark.parametrize("threshold", [None, -0.9, 5.0])
def test_histogram_counts_every_image_once(scored, with_kinds, threshold):
    y, kinds, scores = scored
    display = ScoreHistogramDisplay.from_predictions(
        y, scores, kinds=kinds if with_kinds else None, threshold=threshold
    )
    names = ["normal", "crack", "missing_part", "spot"] if with_kinds else ["normal", "defective"]
    assert list(display.counts_) == names
    assert sum(counts.sum() for counts in display.counts_.values()) == len(y)
    assert display.counts_["normal"].sum() == 30
    heights = sum(patch.get_height() for patch in display.ax_.patches)
    assert heights == len(y)
    top = max(patch.get_y() + patch.get_height() for patch in display.ax_.patches)
    assert display.ax_.get_ylim()[1] > top
    legend = [text.get_text() for text in display.ax_.get_legend().texts]
    assert "normal (30)" in legend
    assert overlaps(texts_of(*display.figure_.axes)) == []


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [None, -0.9])
def test_histogram_without_labels_shows_all_scores(scored, threshold):
    y, _, scores = scored
    display = ScoreHistogramDisplay.from_predictions(None, scores, threshold=threshold)
    assert display.y is None
    assert list(display.counts_) == ["all images"]
    labelled = ScoreHistogramDisplay.from_predictions(y, scores, threshold=threshold)
    np.testing.assert_array_equal(display.bin_edges_, labelled.bin_edges_)
    np.testing.assert_array_equal(display.counts_["all images"], sum(labelled.counts_.values()))
    legend = {text.get_text() for text in display.ax_.get_legend().texts}
    assert legend == {"all images (60)"} | ({f"threshold {MINUS}0.9"} if threshold else set())
    colours = {patch.get_facecolor() for patch in display.ax_.patches}
    assert len(colours) == 1
    assert not colours & {patch.get_facecolor() for patch in labelled.ax_.patches}
    assert overlaps(texts_of(*display.figure_.axes)) == []


def test_histogram_without_labels_of_estimators(fitted, grey_images, blobs):
    display = ScoreHistogramDisplay.from_estimator(fitted, grey_images[:10], bins=7)
    np.testing.assert_array_equal(display.scores, fitted.score_samples(grey_images[:10]))
    assert display.threshold_line_.get_xdata()[0] == fitted.offset_
    assert display.counts_["all images"].sum() == 10
    forest = IsolationForest(n_estimators=5, random_state=0).fit(blobs)
    assert ScoreHistogramDisplay.from_estimator(forest, blobs).counts_["all images"].sum() == 60


def test_kinds_without_labels_are_refused():
    with pytest.raises(ValueError, match=r"kinds need y, .*pass y too, or leave kinds out"):
        ScoreHistogramDisplay.from_predictions(None, [1.0, 0.0], kinds=["a", "b"])


def test_threshold_line_separates_the_bars(scored):
    y, kinds, scores = scored
    display = ScoreHistogramDisplay.from_predictions(y, scores, kinds=kinds, threshold=-0.9)
    assert display.threshold_line_.get_xdata() == [-0.9, -0.9]
    assert f"threshold {MINUS}0.9" in [text.get_text() for text in display.ax_.get_legend().texts]
    (edge,) = np.flatnonzero(display.bin_edges_ == -0.9)
    rejected = sum(counts[:edge].sum() for counts in display.counts_.values())
    assert rejected == np.sum(scores < -0.9)
    assert ScoreHistogramDisplay.from_predictions(y, scores).threshold_line_ is None
    assert "higher is more normal" in display.ax_.get_xlabel()


def test_long_tail_is_counted_in_the_first_bar(scored):
    y, _, scores = scored
    scores = np.concatenate([scores, [-1e3, -1e6]])
    display = ScoreHistogramDisplay.from_predictions([*y, -1, -1], scores, threshold=-1.0)
    assert display.n_below_ == np.sum(scores < display.bin_edges_[0]) >= 2
    assert display.n_above_ == 0
    assert display.bin_edges_[0] > -20
    assert display.counts_["defective"].sum() == 32
    assert display.counts_["defective"][0] >= 2
    assert f"the first bar includes {display.n_below_} images below" in display.ax_.get_xlabel()


@pytest.mark.parametrize(
    ("y", "scores"), [([1], [-1.0]), ([0, 0, 0, 1], [-1.0, -1.0, -1.0, -9.0]), ([True, True], [2.0, 3.0])]
)
def test_histogram_of_few_or_equal_scores(y, scores):
    for threshold in (None, -1.0, 0.3):
        display = ScoreHistogramDisplay.from_predictions(y, scores, threshold=threshold, bins=5)
        assert sum(counts.sum() for counts in display.counts_.values()) == len(y)
        assert (np.diff(display.bin_edges_) > 0).all()


@pytest.mark.parametrize("bins", [0, 10.0])
def test_histogram_faulty_bins_raise(bins, scored):
    y, _, scores = scored
    with pytest.raises(ValueError, match=f"bins must be an int of 1 or more, got {bins}"):
        ScoreHistogramDisplay.from_predictions(y, scores, bins=bins)


def test_each_kind_looks_its_own_way():
    kinds = [f"kind {i}" for i in range(12)]
    display = ScoreHistogramDisplay.from_predictions([-1] * 12, np.arange(12.0), kinds=kinds)
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in display.ax_.get_legend().legend_handles}
    assert len(looks) == 12
    y = [1, *[-1] * 12]
    display = RocByKindDisplay.from_predictions(y, np.arange(13.0), kinds=["good", *kinds])
    looks = {(line.get_color(), line.get_linestyle()) for line in display.ax_.get_legend().legend_handles}
    assert len(looks) >= 12  # some line styles have no name, and are told by their colours


def test_kind_that_is_called_normal_is_counted_apart():
    display = ScoreHistogramDisplay.from_predictions([1, -1], [1.0, 0.0], kinds=["good", "normal"])
    assert {name: counts.sum() for name, counts in display.counts_.items()} == {
        "normal": 1,
        "normal (defective)": 1,
    }


def test_threshold_must_be_finite():
    with pytest.raises(ValueError, match="threshold must be None or a finite number, got -inf"):
        ScoreHistogramDisplay.from_predictions([1, -1], [1.0, 0.0], threshold=-np.inf)


@pytest.mark.slow
def test_histogram_from_estimator(fitted, grey_images):
    y = np.repeat([1, -1], [6, 4])
    display = ScoreHistogramDisplay.from_estimator(
        fitted, grey_images[:10], y, kinds=["good"] * 6 + ["x"] * 4
    )
    np.testing.assert_array_equal(display.scores, fitted.score_samples(grey_images[:10]))
    assert display.threshold_line_.get_xdata()[0] == fitted.offset_
    assert list(display.counts_) == ["normal", "x"]


def test_displays_take_any_outlier_detector(blobs):
    forest = IsolationForest(n_estimators=5, random_state=0).fit(blobs)
    y = np.repeat([1, -1], 30)
    assert ScoreHistogramDisplay.from_estimator(forest, blobs, y).threshold == forest.offset_
    curve = RocByKindDisplay.from_estimator(forest, blobs, y).curves_["defective"]
    assert curve.roc_auc == pytest.approx(roc_auc_score(y, forest.score_samples(blobs)))
    with pytest.raises(TypeError, match="IsolationForest has no history_"):
        HistoryDisplay.from_estimator(forest)


# ROC curves


def test_roc_by_kind_legend_hides_no_curve():
    rng = np.random.RandomState(0)
    y = np.repeat([1, -1], [40, 120])
    kinds = np.array(["good"] * 40 + [f"kind {i}" for i in range(12)] * 10)
    display = RocByKindDisplay.from_predictions(y, rng.normal(size=160), kinds=kinds)  # as good as chance
    display.figure_.draw_without_rendering()
    legend = display.ax_.get_legend().get_window_extent()
    assert not legend.overlaps(display.ax_.get_window_extent().padded(-1))
    width, height = display.figure_.get_size_inches() * display.figure_.dpi
    assert 0 <= legend.x0 < legend.x1 <= width + 1
    assert 0 <= legend.y0 < legend.y1 <= height + 1


def test_roc_by_kind_is_scikit_learns(scored):
    y, kinds, scores = scored
    display = RocByKindDisplay.from_predictions(y, scores, kinds=kinds)
    labels = [text.get_text() for text in display.ax_.get_legend().texts]
    for kind in ("crack", "missing_part", "spot"):
        rows = (y == 1) | (kinds == kind)
        area = roc_auc_score(y[rows] == -1, -scores[rows])
        assert display.curves_[kind].roc_auc == pytest.approx(area)
        assert f"{kind}, n = 10 (AUC = {area:.2f})" in labels
    assert f"all defects, n = 30 (AUC = {roc_auc_score(y, scores):.2f})" in labels
    assert len(labels) == 5  # and chance
    assert overlaps(texts_of(*display.figure_.axes)) == []


def test_roc_of_one_kind_has_one_curve(scored):
    y, _, scores = scored
    display = RocByKindDisplay.from_predictions(y, scores)
    assert list(display.curves_) == ["defective"]
    assert display.curves_["defective"].line_ in display.ax_.lines


def legend_texts(display):
    return [text.get_text() for text in display.ax_.get_legend().texts]


def test_roc_has_a_name(scored, fitted, grey_images):
    y, kinds, scores = scored
    unnamed = RocByKindDisplay.from_predictions(y, scores, kinds=kinds)
    assert unnamed.name is None
    display = RocByKindDisplay.from_predictions(y, scores, kinds=kinds, name="night shift")
    assert display.name == "night shift"
    *curves, chance = legend_texts(unnamed)
    assert legend_texts(display) == [*(f"night shift: {text}" for text in curves), chance]
    assert list(display.curves_) == list(unnamed.curves_)
    assert legend_texts(display.plot(name="day"))[0] == f"day: {curves[0]}"
    assert legend_texts(display.plot())[0] == f"night shift: {curves[0]}"
    display = RocByKindDisplay.from_estimator(fitted, grey_images[:4], [1, 1, -1, -1], name="tiny")
    assert legend_texts(display)[0].startswith("tiny: defective, n = 2 (AUC = ")


def test_roc_of_two_detectors_on_one_axes(scored):
    y, kinds, scores = scored
    first = RocByKindDisplay.from_predictions(y, scores, kinds=kinds, name="day")
    second = RocByKindDisplay.from_predictions(y, 2.0 + scores**3, kinds=kinds, name="night", ax=first.ax_)
    texts = legend_texts(second)
    assert [text.split(":")[0] for text in texts] == ["day"] * 4 + ["chance"] + ["night"] * 4
    lines = [curve.line_ for display in (first, second) for curve in display.curves_.values()]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 8


@pytest.mark.parametrize(("y", "what"), [([1, 1], "normal images"), ([True, True], "defects")])
def test_roc_needs_both(y, what):
    with pytest.raises(ValueError, match=f"y holds only {what}"):
        RocByKindDisplay.from_predictions(y, [0.0, 1.0])


@pytest.mark.parametrize("display", [ScoreHistogramDisplay, RocByKindDisplay])
def test_labels_scores_and_kinds_must_fit(display):
    for scores, kinds, message in [
        ([1.0, 2.0], None, "scores has length 2, but y has length 3"),
        ([1.0, 2.0, 3.0], ["a"], "kinds has length 1, but y has length 3"),
        ([1.0, 2.0, np.inf], None, "scores must be finite, but is inf at row 2"),
        ([1.0, np.nan, 2.0], None, "scores must be finite, but is nan at row 1.*leave such images out"),
        ([[1.0], [2.0], [3.0]], None, r"scores must have shape \(n,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            display.from_predictions([1, 1, -1], scores, kinds=kinds)


def test_labels_are_read_as_elsewhere():
    for y in ([1, -1], [0, 1], [False, True], ["good", "crack"], pd.Series([1.0, -1.0])):
        display = ScoreHistogramDisplay.from_predictions(y, [0.0, 1.0])
        assert display.y.tolist() == [False, True]
    with pytest.raises(ValueError, match="got 'ok', 'bad'"):
        ScoreHistogramDisplay.from_predictions(["ok", "bad"], [0.0, 1.0])


# History


def test_history_has_one_panel_for_each_entry(grey_images):
    fitted = CSFlowDetector(**{**FAST, "n_epochs": 2}).fit(grey_images)
    display = HistoryDisplay.from_estimator(make_pipeline(FunctionTransformer(), fitted))
    assert list(display.lines_) == list(fitted.history_)
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2])
        np.testing.assert_array_equal(line.get_ydata(), fitted.history_[name])
    assert len(display.axes_) == len(display.figure_.axes) == len(fitted.history_)
    assert overlaps(texts_of(*display.figure_.axes)) == []


def test_history_on_given_axes_and_of_odd_number():
    import matplotlib.pyplot as plt

    display = HistoryDisplay({"a": [1.0], "b": [2.0], "c": [-3.0]})
    assert len(display.plot().figure_.axes) == 3
    figure, axes = plt.subplots(3)
    assert display.plot(axes).figure_ is figure
    with pytest.raises(ValueError, match="ax has length 2, but history has length 3"):
        display.plot(axes[:2])
    with pytest.raises(ValueError, match="history is empty"):
        HistoryDisplay({}).plot()


# The package


def test_public_classes_say_where_they_are_imported_from():
    for name in plotting.__all__:
        display = getattr(plotting, name)
        assert display.__module__ == "skcsflow.plotting"
        assert pickle.loads(pickle.dumps(display)) is display


def test_without_matplotlib_the_message_names_the_extra(monkeypatch, fitted, grey_images):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    images, y = grey_images[:2], [1, -1]
    calls = [
        lambda: AnomalyMapDisplay.from_estimator(fitted, images),
        lambda: AnomalyMapDisplay.from_maps(images, images),
        lambda: AnomalyMapDisplay(images, images).plot(),
        lambda: ScoreHistogramDisplay.from_estimator(fitted, images, y),
        lambda: ScoreHistogramDisplay.from_predictions(y, [0.0, 1.0]),
        lambda: RocByKindDisplay.from_estimator(fitted, images, y),
        lambda: RocByKindDisplay.from_predictions(y, [0.0, 1.0]),
        lambda: HistoryDisplay.from_estimator(fitted),
        lambda: HistoryDisplay({"loss": [1.0]}).plot(),
    ]
    for call in calls:
        with pytest.raises(ImportError, match=r'pip install "skcsflow\[plot\]"'):
            call()


def test_matplotlib_is_imported_inside_functions_alone():
    for path in Path(plotting.__file__).parent.glob("*.py"):
        if path.name == "_ticks.py":  # which is imported inside functions alone
            continue
        imported = [
            node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)
        ]
        assert not [node.module for node in imported if node.module.startswith("matplotlib")]
        assert (
            "import matplotlib" not in path.read_text("utf-8").partition("\ndef ")[0].partition("\nclass ")[0]
        )
