"""Frames: which parts of an image go through the network, and one map of theirs."""

import numpy as np
import pytest
import torch
from PIL import Image

from skcsflow._images._framing import Framing, check_roi


def numbered(height, width, channels=1, dtype=torch.float32):
    values = torch.arange(height * width, dtype=torch.float32).reshape(1, height, width)
    return (values % 200).to(dtype).repeat(channels, 1, 1)


def seen(framing, size):
    """How many frames show each pixel."""
    times = np.zeros(size, int)
    for top, left, bottom, right in framing.boxes(size):
        times[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] += 1
    return times


# Boxes


def test_boxes_without_options_are_the_image():
    assert Framing().boxes((30, 40)) == [(0, 0, 30, 40)]
    assert Framing().is_plain


@pytest.mark.parametrize("size", [(96, 96), (97, 130), (96, 32), (300, 33)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_tiles_cover_the_image_and_stay_inside(size, overlap):
    framing = Framing(tile_size=32, tile_overlap=overlap)
    boxes = framing.boxes(size)
    assert seen(framing, size).min() == 1 or overlap > 0
    assert (seen(framing, size) > 0).all()
    assert all(bottom - top == right - left == 32 for top, left, bottom, right in boxes)
    assert min(b[0] for b in boxes) == min(b[1] for b in boxes) == 0
    assert (max(b[2] for b in boxes), max(b[3] for b in boxes)) == size
    for axis in (0, 1):
        starts = sorted({b[axis] for b in boxes})
        assert (np.diff(starts) <= np.ceil(32 * (1 - overlap))).all()


def test_tiles_are_the_fewest_with_that_overlap():
    assert len(Framing(tile_size=256, tile_overlap=0).boxes((1024, 1024))) == 16
    assert len(Framing(tile_size=256, tile_overlap=0.25).boxes((1024, 1024))) == 25
    assert len(Framing(tile_size=(1024, 512), tile_overlap=0).boxes((1024, 1024))) == 2


@pytest.mark.parametrize(("length", "side", "overlap"), [(342, 33, 0.33), (1000, 37, 0.9), (101, 10, 0.25)])
def test_tiles_overlap_by_no_less_than_asked_for(length, side, overlap):
    tops = np.unique([b[0] for b in Framing(tile_size=side, tile_overlap=overlap).boxes((length, side))])
    assert np.diff(tops).max() <= side * (1 - overlap)


def test_tile_larger_than_the_image_has_it_in_its_middle():
    assert Framing(tile_size=64).boxes((40, 200))[0][0::2] == (-12, 52)


def test_roi_box_is_the_frame():
    assert Framing(roi=(2, 3, 20, 30)).boxes((30, 40)) == [(2, 3, 20, 30)]


def test_roi_mask_frames_its_bounding_box():
    mask = np.zeros((30, 40))
    mask[5, 7], mask[20, 9] = 255, 1
    assert Framing(roi=mask).boxes((30, 40)) == [(5, 7, 21, 10)]


def test_tiles_without_a_pixel_of_the_mask_are_left_out():
    mask = np.zeros((64, 64), bool)
    mask[:8, :8] = mask[60:, 60:] = True
    assert Framing(roi=mask, tile_size=32, tile_overlap=0).boxes((64, 64)) == [
        (0, 0, 32, 32),
        (32, 32, 64, 64),
    ]


@pytest.mark.parametrize(
    ("size", "box"), [((30, 60), (-15, 0, 45, 60)), ((60, 30), (0, -15, 60, 45)), ((50, 50), (0, 0, 50, 50))]
)
def test_aspect_grows_the_frame(size, box):
    assert Framing(aspect=(64, 64)).boxes(size) == [box]


# Cutting


def test_cut_without_options_gives_the_image_itself():
    image = numbered(4, 5)
    assert Framing().cut(image)[0] is image


def test_cut_gives_parts_without_a_copy():
    image = numbered(64, 64, 3)
    frames = Framing(tile_size=32, tile_overlap=0).cut(image)
    assert torch.equal(frames[3], image[:, 32:, 32:])
    assert frames[3].untyped_storage().data_ptr() == image.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("dtype", "grey"),
    [
        (torch.uint8, 127),
        (torch.uint16, 32767),
        (torch.int64, 2**62 - 1),
        (torch.float32, 0.5),
        (torch.float64, 0.5),
    ],
)
def test_cut_fills_with_grey_beside_the_image(dtype, grey):
    image = numbered(2, 4, 3, dtype)
    (frame,) = Framing(aspect=(10, 10)).cut(image)
    assert frame.shape == (3, 4, 4)
    assert frame.dtype == dtype
    assert torch.equal(frame[:, 1:3], image)
    assert (frame.to(torch.float64)[:, [0, 3]] == float(grey)).all()


def test_cut_shows_nothing_beside_a_mask():
    image = numbered(6, 6, 3, torch.uint8)
    mask = np.triu(np.ones((6, 6), bool))
    (frame,) = Framing(roi=mask).cut(image)
    assert torch.equal(frame[:, mask], image[:, mask])
    assert (frame[:, ~mask] == 127).all()
    assert torch.equal(image, numbered(6, 6, 3, torch.uint8))  # the user's own


def test_cut_beyond_the_roi_is_grey_though_the_image_goes_on():
    (frame,) = Framing(roi=(10, 10, 20, 30), aspect=(8, 8)).cut(numbered(60, 60))
    assert frame.shape == (1, 20, 20)
    assert (frame[:, :5] == 0.5).all()
    assert (frame[:, 15:] == 0.5).all()


def test_cut_of_a_grey_image_stays_one_channel_in_memory():
    image = numbered(6, 8).expand(3, -1, -1)
    (frame,) = Framing(aspect=(4, 4)).cut(image)
    assert frame.shape == (3, 8, 8)
    assert frame.stride(0) == 0


def test_cut_of_a_boolean_image_has_grey():
    (frame,) = Framing(aspect=(4, 4)).cut(torch.ones((3, 2, 4), dtype=torch.bool))
    assert sorted(set(frame.flatten().tolist())) == [0.5, 1.0]


# Pasting


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.75])
@pytest.mark.parametrize("options", [{}, {"roi": (5, 7, 60, 90)}, {"aspect": (32, 50)}])
def test_paste_undoes_cut(overlap, options):
    framing = Framing(tile_size=32, tile_overlap=overlap, **options)
    image = numbered(70, 95)
    frames = [f[0].numpy() for f in framing.cut(image)]
    pasted = framing.paste(frames, (70, 95))
    top, left, bottom, right = options.get("roi", (0, 0, 70, 95))
    inside = (slice(top, bottom), slice(left, right))
    np.testing.assert_allclose(pasted[inside], image[0].numpy()[inside], rtol=1e-5)


def test_paste_of_one_frame_changes_no_bit():
    values = np.random.RandomState(0).rand(20, 30).astype(np.float32)
    assert (Framing(roi=(5, 5, 25, 35)).paste([values], (40, 40))[5:25, 5:35] == values).all()


def test_paste_puts_the_lowest_value_or_0_beside_the_region():
    framing = Framing(roi=(1, 1, 3, 3))
    assert framing.paste([np.full((2, 2), 5, np.float32)], (4, 4))[0].tolist() == [0] * 4
    assert framing.paste([np.full((2, 2), -5, np.float32)], (4, 4))[0].tolist() == [-5] * 4


def test_paste_of_a_mask_is_low_beside_it():
    mask = np.eye(4, dtype=bool)
    pasted = Framing(roi=mask).paste([np.full((4, 4), 3, np.float32)], (4, 4))
    np.testing.assert_array_equal(pasted, 3 * np.eye(4))


# The region of interest


def test_check_roi_reads_a_file(tmp_path):
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:6] = True
    Image.fromarray(mask).save(tmp_path / "roi.png")
    np.testing.assert_array_equal(check_roi(tmp_path / "roi.png"), mask)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_check_roi_takes_pil_images_and_tensors(mode):
    mask = np.eye(8, dtype=bool)
    np.testing.assert_array_equal(check_roi(Image.fromarray(mask).convert(mode)), mask)
    np.testing.assert_array_equal(check_roi(torch.from_numpy(mask).float().requires_grad_()), mask)


@pytest.mark.parametrize("roi", [(1, 2, 3, 4), [1, 2, 3, 4], np.array([1, 2, 3, 4])])
def test_check_roi_takes_boxes(roi):
    assert check_roi(roi) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ((5, 0, 5, 9), "min_row < max_row"),
        ((-1, 0, 5, 9), "all from 0"),
        ((1, 2, 3), "roi must be None, a box"),
        ((0.0, 0.0, 3.5, 4.0), "roi must be None, a box"),
        (np.zeros((4, 4)), "without a pixel"),
        (np.full((4, 4), np.nan), "roi contains NaN"),
        (np.ones((4, 4, 3)), r"a mask of shape.*got an array of shape \(4, 4, 3\) and dtype float64"),
        ([[1, 0], [1]], "roi can't be read as an array"),
        (np.ma.masked_equal(np.eye(4), 0), "roi is a masked array"),
        ("nowhere.png", "roi .'nowhere.png'.: there is no such file"),
    ],
)
def test_check_roi_refuses_the_rest(roi, message):
    with pytest.raises(ValueError, match=message):
        check_roi(roi)


def test_boxes_name_the_image_that_the_roi_does_not_fit():
    with pytest.raises(
        ValueError, match=r"roi=\(0, 0, 50, 40\) reaches beyond X\[3\], which has 30 x 40 pixels"
    ):
        Framing(roi=(0, 0, 50, 40)).boxes((30, 40), "X[3]")
    with pytest.raises(ValueError, match=r"roi is a mask of 8 x 8 pixels, but X\[3\] has 30 x 40"):
        Framing(roi=np.ones((8, 8))).boxes((30, 40), "X[3]")


def test_key_tells_framings_apart():
    mask = np.ones((8, 8), bool)
    framings = [{}, {"tile_size": 32}, {"tile_size": 32, "tile_overlap": 0.5}, {"aspect": (4, 5)}]
    framings += [{"roi": (0, 0, 8, 8)}, {"roi": mask}, {"roi": np.triu(mask)}]
    assert len({Framing(**options).key for options in framings}) == len(framings)
    assert Framing(**Framing(roi=mask, tile_size=9).options).key == Framing(roi=mask, tile_size=9).key
