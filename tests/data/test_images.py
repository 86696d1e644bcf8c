"""Images land where `input_from_pixel` says, at every reduction and augmentation."""

import cv2
import numpy as np
import pytest

from occjax.config import AugmentConfig
from occjax.data.augment import plain_resize, sample_image_augmentation
from occjax.data.images import draw_image, reduction_for
from occjax.errors import DataError

SIZE = np.array([1600, 900])


def draw(tmp_path, center, *, suffix="png", size=SIZE):
    """A black image with one soft white dot around `center`, pixel centres at half-integers."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    image = 255 * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 12.0**2))
    path = tmp_path / f"dot.{suffix}"
    cv2.imwrite(str(path), np.repeat(image[..., None].round().astype(np.uint8), 3, axis=2))
    return path


def brightest(image):
    """Centre of mass of the image, pixel centres at half-integers."""
    weight = image.mean(axis=-1).astype(np.float64)
    weight[weight < 20] = 0
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("height, width", [(900, 1600), (480, 640), (256, 704), (128, 352), (64, 112)])
def test_dot_stays_where_the_matrix_says_after_plain_resize(tmp_path, suffix, height, width):
    center = np.array([1040.5, 300.5])
    path = draw(tmp_path, center, suffix=suffix)
    out = np.zeros((height, width, 3), np.uint8)
    matrix = plain_resize(SIZE, (width, height))
    draw_image(path.read_bytes(), SIZE, matrix, out)
    np.testing.assert_allclose(brightest(out), matrix[:2, :2] @ center, atol=0.06)


@pytest.mark.parametrize("seed", range(6))
def test_dot_stays_where_the_matrix_says_after_augmentation(tmp_path, seed):
    config = AugmentConfig(image_scale=(0.8, 1.3), image_rotate_deg=20.0, image_flip=True)
    rng = np.random.default_rng(seed)
    center = np.array([850.0, 420.0])
    path = draw(tmp_path, center, suffix="jpg")
    out = np.zeros((480, 640, 3), np.uint8)
    matrix = sample_image_augmentation(rng, config, width=640, height=480) @ plain_resize(SIZE, (640, 480))
    draw_image(path.read_bytes(), SIZE, matrix, out)
    np.testing.assert_allclose(brightest(out), (matrix @ [*center, 1])[:2], atol=0.1)


def test_flip_is_exactly_the_mirror_image(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.png"
    cv2.imwrite(str(path), rng.integers(0, 255, (32, 48, 3), np.uint8))
    mirror = np.array([[-1.0, 0, 48], [0, 1, 0], [0, 0, 1]])
    plain, flipped = np.zeros((2, 32, 48, 3), np.uint8)
    draw_image(path.read_bytes(), np.array([48, 32]), np.eye(3), plain)
    draw_image(path.read_bytes(), np.array([48, 32]), mirror, flipped)
    np.testing.assert_array_equal(flipped, plain[:, ::-1])
    np.testing.assert_array_equal(plain, cv2.imread(str(path))[..., ::-1])  # RGB


def test_scaled_down_image_has_a_black_border_inside_the_input():
    config = AugmentConfig(image_scale=(0.5, 0.5))
    matrix = sample_image_augmentation(np.random.default_rng(3), config, width=64, height=32)
    corners = matrix @ np.array([[0, 0, 1], [64, 32, 1]]).T
    assert np.all(corners[:2, 0] >= 0) and np.all(corners[:2, 1] <= [64, 32])
    np.testing.assert_allclose(corners[:2, 1] - corners[:2, 0], [32, 16])


def test_augmentation_without_ranges_is_exactly_the_identity():
    matrix = sample_image_augmentation(np.random.default_rng(0), AugmentConfig(), width=640, height=480)
    np.testing.assert_array_equal(matrix, np.eye(3))


def test_reduction_never_enlarges_much():
    def reduction(width, height, size=SIZE):
        return reduction_for(np.array(size), plain_resize(size, (width, height)))

    assert reduction(640, 480) == 2
    assert reduction(704, 256) == 2
    assert reduction(352, 128) == 4
    assert reduction(1600, 896) == 1
    # 900 rows do not divide by 8, 896 do.
    assert reduction(160, 96) == 4
    assert reduction(160, 96, (1600, 896)) == 8


def test_reduced_decode_is_close_to_a_full_antialiased_resize(shared_dir):
    from PIL import Image

    paths = sorted((shared_dir / "data/nuscenes_real/samples").glob("CAM_*/*.jpg"))[:4]
    for path in paths:
        out = np.zeros((480, 640, 3), np.uint8)
        draw_image(path.read_bytes(), SIZE, plain_resize(SIZE, (640, 480)), out)
        full = np.asarray(Image.open(path).resize((640, 480), Image.Resampling.BILINEAR))
        error = np.mean((out.astype(float) - full) ** 2)
        assert 10 * np.log10(255**2 / error) > 42


def test_unreadable_images_say_why(tmp_path):
    whole = draw(tmp_path, (40, 30), suffix="jpg", size=(96, 64)).read_bytes()
    path = tmp_path / "bad.jpg"
    out = np.zeros((64, 96, 3), np.uint8)

    def read(size=(96, 64)):
        draw_image(path.read_bytes(), np.array(size), np.eye(3), out)

    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        read()
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        read()
    path.write_bytes(b"not an image at all")
    with pytest.raises(DataError, match="neither JPEG nor PNG; it begins with 6e 6f 74 20"):
        read()
    path.write_bytes(whole + b"\0" * 16)
    read()
    with pytest.raises(DataError, match="image is 96×64, but the tables say 1600×900"):
        read((1600, 900))


def noise_jpeg(height=180, width=320, **options) -> bytes:
    rng = np.random.default_rng(5)
    image = cv2.resize(rng.integers(0, 255, (height // 4, width // 4, 3), np.uint8), (width, height))
    flags = [value for item in options.items() for value in item]
    return cv2.imencode(".jpg", image, [getattr(cv2, f) if isinstance(f, str) else f for f in flags])[1].tobytes()


def decoded(data: bytes, size=(320, 180)):
    out = np.zeros((96, 176, 3), np.uint8)
    draw_image(data, np.array(size), plain_resize(np.array(size), (176, 96)), out)
    return out


JPEGS = {
    "plain": {},
    "progressive": {"IMWRITE_JPEG_PROGRESSIVE": 1},
    "restarts": {"IMWRITE_JPEG_RST_INTERVAL": 4},
    "not subsampled": {"IMWRITE_JPEG_SAMPLING_FACTOR": 0x111111},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_with_a_hole_or_cut_off_are_refused_wherever_it_is(kind):
    whole = noise_jpeg(**JPEGS[kind])
    sound = decoded(whole)
    # Padding to a block of the disk, or a camera's own data, behind the end.
    for tail in (bytes(5000), b"\xff\xd8 maker's notes \xff\xd9" * 100):
        np.testing.assert_array_equal(decoded(whole + tail), sound)
    for share in (0.3, 0.5, 0.8):
        cut = int(len(whole) * share)
        with pytest.raises(DataError, match="hole: nothing but zeros from byte"):
            decoded(whole[:cut] + bytes(len(whole) - cut - 200) + whole[-200:])
        with pytest.raises(DataError, match=r"hole|truncated"):
            decoded(whole[:cut] + bytes(len(whole) - cut))
        with pytest.raises(DataError, match="truncated: it has no end marker"):
            decoded(whole[:cut])


@pytest.mark.parametrize("kind", JPEGS)
def test_an_end_marker_does_not_make_half_a_jpeg_whole(kind, capfd):
    whole = noise_jpeg(**JPEGS[kind])
    for share in (0.2, 0.5, 0.95):
        with pytest.raises(DataError, match="data is missing before its end marker"):
            decoded(whole[: int(len(whole) * share)] + b"\xff\xd9")


def test_a_grey_image_is_sound():
    data = cv2.imencode(".jpg", np.full((180, 320, 3), 128, np.uint8))[1].tobytes()
    assert (decoded(data) == 128).all()


def test_no_image_is_decoded_that_declares_another_size():
    """Sixty bytes may declare four gigapixels."""
    whole = bytearray(noise_jpeg())
    place = whole.index(b"\xff\xc0")
    whole[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(DataError, match="image is 65535×65535, but the tables say 320×180"):
        decoded(bytes(whole))


def test_pngs_are_checked_by_their_checksums():
    whole = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (180, 320, 3), np.uint8))[1].tobytes()
    decoded(whole + bytes(100))
    for damaged in (whole[:-12], whole[:5000], whole[:-100] + bytes(100), whole[:900] + b"x" + whole[901:]):
        with pytest.raises(DataError, match="PNG is"):
            decoded(damaged)
