"""Feature extraction and the backbones' weights."""

import re

import numpy as np
import pytest
import timm
import torch

from skcsflow.nn import MultiScaleFeatureExtractor
from skcsflow.nn._weights import PACKAGED_WEIGHTS, create_backbone


@pytest.mark.parametrize(
    ("backbone", "channels", "stages"),
    [
        ("tf_efficientnet_b5.aa_in1k", 304, 6),
        ("tf_efficientnet_lite0", 192, 6),
        ("tf_efficientnet_lite2", 208, 6),
        ("tf_efficientnetv2_b0", 192, 6),  # one stage of stride 32 only
        ("mobilenetv3_small_100", 96, 5),
        ("test_efficientnet", 64, 5),
    ],
)
def test_extractor_of_an_efficientnet_taps_the_last_stage_before_the_widest(backbone, channels, stages):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None)
    assert extractor.channels == (channels,) * 3
    assert extractor.strides == (32, 64, 128)
    (network,) = extractor.backbone
    assert len(network) == 2 + stages  # stem, its norm, and no unused tail


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", 512), ("convnext_atto", 320)])
def test_extractor_of_another_network_taps_the_last_stage_of_stride_32(backbone, channels):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None)
    assert extractor.channels == (channels,) * 3
    assert [tuple(f.shape) for f in extractor(torch.rand(1, 3, 128, 64))] == [
        (1, channels, 4, 2),
        (1, channels, 2, 1),
        (1, channels, 1, 1),
    ]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((300, 300), [(10, 10), (5, 5), (3, 3)]),
        ((600, 600), [(19, 19), (10, 10), (5, 5)]),
        ((32, 32), [(1, 1)] * 3),
        ((321, 97), [(11, 4), (6, 2), (3, 1)]),
    ],
)
def test_extractor_of_any_size_gives_halves_rounded_up(size, expected):
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None)
    features = extractor(torch.rand(2, 3, *size))
    assert [tuple(f.shape) for f in features] == [(2, 64, *s) for s in expected]


def test_extractor_of_lite0_gives_timms_own_features():
    extractor = MultiScaleFeatureExtractor("tf_efficientnet_lite0")
    model = create_backbone("tf_efficientnet_lite0").eval()
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x = model.bn1(model.conv_stem((images - 0.5) / 0.5))
    for block in model.blocks[:6]:
        x = block(x)
    assert are_close(extractor(images)[0], x)


def are_close(features, expected):
    """As float32 allows; folded batch norms round elsewhere."""
    return (
        features.shape == expected.shape and (features - expected).abs().max() <= 1e-5 * expected.abs().max()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    [
        "ghostnet_050",  # its stem's activation stands apart
        "repghostnet_050",
        "mobilenetv3_small_050",
        "tf_efficientnet_lite0",
        "lcnet_035",
        "test_efficientnet_ln",
        "mobilenetv4_conv_small_035",
    ],
)
def test_extractor_of_any_network_gives_what_timm_has_after_that_stage(backbone):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None, strides=(32,))
    model = create_backbone(backbone, None).eval()
    images = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    stages = []
    for block in model.blocks:
        block.register_forward_hook(lambda _block, _input, output: stages.append(output))
    with torch.no_grad():
        model.forward_features((images - extractor.mean) / extractor.std)
        (features,) = extractor(images)
    assert any(are_close(features, stage) for stage in stages)


@pytest.mark.slow
@pytest.mark.skipif(not timm.is_model("mobilenetv5_base"), reason="needs a later timm")
def test_extractor_of_mobilenetv5_goes_by_stride():
    extractor = MultiScaleFeatureExtractor("mobilenetv5_base", weights=None)
    assert [tuple(f.shape) for f in extractor(torch.rand(1, 3, 70, 64))] == [
        (1, extractor.channels[0], 3, 2),
        (1, extractor.channels[0], 2, 1),
        (1, extractor.channels[0], 1, 1),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size", "words"),
    [
        ("swin_tiny_patch4_window7_224", (64, 64), "64 x 64 pixels, which for stride 32 become 64 x 64"),
        ("inception_v3", (224, 200), "224 x 200 pixels, which for stride 128 become 56 x 50"),
        ("hrnet_w18_small", (70, 100), "70 x 100 pixels, which for stride 32 become 70 x 100"),
        ("coatnet_nano_rw_224", (70, 100), "70 x 100 pixels, which for stride 32 become 70 x 100"),
    ],
)
def test_extractor_with_a_size_that_its_backbone_cannot_take_raises(backbone, size, words):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None)
    with pytest.raises(ValueError, match=f"backbone='{backbone}' can't take images of {words}: .*input_size"):
        extractor(torch.rand(1, 3, *size))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_extractor_out_of_memory_raises_torchs_own_error(monkeypatch, error):
    def fail(_images):
        raise error

    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None)
    monkeypatch.setattr(extractor.backbone, "forward", fail)
    with pytest.raises(RuntimeError) as raised:
        extractor(torch.rand(1, 3, 64, 64))
    assert raised.value is error


def test_extractor_with_images_of_another_type_raises_torchs_own_error():
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None)
    with pytest.raises(RuntimeError, match="type"):
        extractor(torch.rand(1, 3, 64, 64, dtype=torch.float64))


def test_extractor_put_in_training_mode_stays_frozen_and_in_evaluation_mode():
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None).train()
    assert not any(module.training for module in extractor.modules())
    assert not any(p.requires_grad for p in extractor.parameters())
    state = {name: t.clone() for name, t in extractor.state_dict().items()}
    extractor(torch.rand(4, 3, 64, 64))
    assert all(torch.equal(t, state[name]) for name, t in extractor.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("num_channels", [1, 2, 4, 12])
def test_extractor_of_other_channel_counts_keeps_pretrained_weights(num_channels):
    extractor = MultiScaleFeatureExtractor("tf_efficientnet_lite0", num_channels=num_channels)
    features = extractor(torch.rand(1, num_channels, 64, 64))
    assert features[0].shape == (1, 192, 2, 2)
    assert extractor.mean.shape == (num_channels, 1, 1)
    pretrained = MultiScaleFeatureExtractor("tf_efficientnet_lite0")
    block = "backbone.0.2.0.conv_dw.weight"
    assert torch.equal(extractor.state_dict()[block], pretrained.state_dict()[block])


def test_extractor_seed_decides_random_weights_and_global_state_is_left_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    extractors = [MultiScaleFeatureExtractor("test_efficientnet", weights=None, seed=s) for s in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    stems = [e.state_dict()["backbone.0.0.weight"] for e in extractors]
    assert torch.equal(stems[0], stems[1])
    assert not torch.equal(stems[0], stems[2])


def test_weights_that_are_random_leave_gpu_generators_alone(monkeypatch):
    # Without a GPU its seed would be kept for when there is one, so it tells there too.
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    create_backbone("test_efficientnet", None, seed=3)
    assert seeds == []


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64)])
def test_extractor_with_images_of_another_shape_raises(shape):
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None)
    with pytest.raises(ValueError, match=r"Expected images of shape \(batch, 3, height, width\)"):
        extractor(torch.zeros(shape))


@pytest.mark.parametrize(
    ("backbone", "strides", "words"),
    [
        ("vit_tiny_patch16_224", (8, 16, 32), "stride 8; its strides are 16, 32, 64, ..."),
        ("vit_small_patch14_dinov2", (16, 32), "stride 16; its strides are 14, 28, 56, ..."),
        ("convnext_atto", (2, 4), "stride 2; its strides are 4, 8, 16, 32, 64, 128, ..."),
        ("test_efficientnet", (1, 2), "stride 1; its strides are 2, 4, 8, 16, 32, 64, 128, ..."),
    ],
)
def test_extractor_without_a_stage_of_a_stride_raises(backbone, strides, words):
    message = f"strides={strides}: backbone='{backbone}' has no feature maps of {words}"
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiScaleFeatureExtractor(backbone, weights=None, strides=strides)


@pytest.mark.parametrize("strides", [(), (8, 32), (32, 16), (8, 8), (8.0, 16), "8", 8, (0, 0), None])
def test_extractor_with_strides_that_do_not_double_raises(strides):
    with pytest.raises(ValueError, match="each twice the one before"):
        MultiScaleFeatureExtractor("test_efficientnet", weights=None, strides=strides)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "strides", "channels", "n_passes"),
    [
        ("tf_efficientnet_lite0", (8, 16, 32), (40, 112, 192), 1),
        ("tf_efficientnet_lite0", (4, 8, 16, 32, 64, 128), (24, 40, 112, 192, 192, 192), 3),
        ("tf_efficientnet_b5.aa_in1k", (8, 16), (64, 176), 1),
        ("test_efficientnet", (64,), (64,), 1),
        ("resnet18", (4, 8, 16, 32, 64), (64, 128, 256, 512, 512), 2),
        ("convnext_atto", (16, 32, 64), (160, 320, 320), 2),
        ("test_vit", (16, 32, 64), (64, 64, 64), 3),
    ],
)
def test_extractor_gives_maps_of_the_strides_in_few_passes(backbone, strides, channels, n_passes):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None, strides=strides)
    assert extractor.channels == channels
    images = torch.rand(2, 3, 256, 192, generator=torch.Generator().manual_seed(0))
    assert len(extractor.pyramid(images)) == n_passes
    maps = extractor(images)
    expected = [(2, c, -(-256 // s), -(-192 // s)) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    # Each scale alone gives the same numbers, from a network cut shorter.
    for stride, m in zip(strides, maps, strict=True):
        (alone,) = MultiScaleFeatureExtractor(backbone, weights=None, strides=(stride,))(images)
        assert are_close(alone, m)


def test_extractor_of_lite0_taps_the_stages_of_the_contract():
    extractor = MultiScaleFeatureExtractor("tf_efficientnet_lite0", strides=(8, 16, 32))
    model = create_backbone("tf_efficientnet_lite0").eval()
    images = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    x = model.bn1(model.conv_stem((images - 0.5) / 0.5))
    outputs = [x := block(x) for block in model.blocks]
    for maps, stage in zip(extractor(images), (2, 4, 5), strict=True):
        assert are_close(maps, outputs[stage])
    assert [len(stages) for stages in extractor.backbone] == [2 + 3, 2, 1]


def test_extractor_above_the_top_stride_halves_the_image():
    images = torch.rand(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None, strides=(16, 32, 64))
    half = torch.nn.functional.interpolate(images, size=(64, 48), mode="bilinear", antialias=True)
    at_half = MultiScaleFeatureExtractor("test_efficientnet", weights=None, strides=(32,))(half)
    assert are_close(extractor(images)[2], at_half[0])


def test_extractor_of_a_vision_transformer_gives_timms_normalised_patches(tmp_path):
    source = timm.create_model("test_vit")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    extractor = MultiScaleFeatureExtractor("test_vit", weights=tmp_path / "weights.pth", strides=(16, 32))
    size = source.pretrained_cfg["input_size"][1:]
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = source.eval().forward_features((images - extractor.mean) / extractor.std)
    patches = tokens[:, source.num_prefix_tokens :].transpose(1, 2).unflatten(2, [n // 16 for n in size])
    maps = extractor(images)
    assert are_close(maps[0], patches)
    assert maps[1].shape[-2:] == tuple(-(-n // 32) for n in size)
    assert [tuple(m.shape[-2:]) for m in extractor(torch.rand(1, 3, 250, 90))] == [(16, 6), (8, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "strides"),
    [
        ("vit_small_patch14_dinov2", (14, 28, 56)),
        ("vit_small_patch14_reg4_dinov2", (14, 28)),
        ("vit_small_patch16_dinov3", (16, 32, 64)),
        ("deit_tiny_patch16_224", (16, 32)),
    ],
)
def test_extractor_of_a_vision_transformer_takes_any_size(backbone, strides):
    extractor = MultiScaleFeatureExtractor(backbone, weights=None, strides=strides)
    maps = extractor(torch.rand(1, 3, 256, 150))
    assert [tuple(m.shape[-2:]) for m in maps] == [(-(-256 // s), -(-150 // s)) for s in strides]
    assert all(m.isfinite().all() for m in maps)


def test_extractor_of_an_unknown_backbone_raises():
    with pytest.raises(ValueError, match=r"name of a timm model .*, got 'efficientnet_b99'"):
        MultiScaleFeatureExtractor("efficientnet_b99")


@pytest.mark.parametrize("backbone", PACKAGED_WEIGHTS)
def test_weights_that_are_packaged_classify_photographs(backbone):
    data = pytest.importorskip("skimage.data")
    if backbone != "tf_efficientnet_lite0":
        pytest.importorskip(PACKAGED_WEIGHTS[backbone][0])
    model = create_backbone(backbone).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    # espresso, cup; tabby, tiger, Egyptian cat
    for photo, classes in ((data.coffee(), {967, 968}), (data.chelsea(), {281, 282, 285})):
        side = min(photo.shape[:2])
        top, left = ((n - side) // 2 for n in photo.shape[:2])
        square = torch.from_numpy(photo[top : top + side, left : left + side] / np.float32(255))
        image = torch.nn.functional.interpolate(
            square.permute(2, 0, 1)[None],
            size=model.pretrained_cfg["input_size"][1:],
            mode="bicubic",
            antialias=True,
        )
        with torch.no_grad():
            assert model((image - mean) / std).argmax().item() in classes


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_at_a_path_are_loaded(tmp_path, suffix):
    source = timm.create_model("test_efficientnet")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        from safetensors.torch import save_file

        save_file(source.state_dict(), path)
    model = create_backbone("test_efficientnet", path)
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


@pytest.mark.slow
def test_weights_at_a_path_are_loaded_for_a_network_cut_by_stride(tmp_path):
    source = timm.create_model("resnet18")
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    extractor = MultiScaleFeatureExtractor("resnet18", weights=str(tmp_path / "weights.pth"))
    assert torch.allclose(
        extractor.backbone.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"], rtol=1e-4
    )  # but for the batch norm, whose statistics are those of no data


def test_weights_at_no_file_raise(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights must be .* none at '.*nowhere\.pth'"):
        create_backbone("test_efficientnet", tmp_path / "nowhere.pth")


def test_weights_of_another_network_raise(tmp_path):
    weights = timm.create_model("test_efficientnet").state_dict()
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    message = r"^weights='.*weights\.pth' do not fit backbone='resnet18': \d+ tensors differ, the first: "
    with pytest.raises(ValueError, match=message + r"conv1\.weight is missing"):
        create_backbone("resnet18", path)
    torch.save(weights | {"conv_stem.weight": torch.zeros(5, 3, 3, 3), "bn2.bias": torch.zeros(7)}, path)
    with pytest.raises(
        ValueError, match=r": 2 tensors differ, the first: size mismatch for conv_stem\.weight"
    ):
        create_backbone("test_efficientnet", path)


def test_weights_that_do_not_fit_or_are_damaged_give_a_short_message(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for backbone, damaged in (
        ("tf_efficientnet_lite0", content),
        ("test_efficientnet", content[:-2000]),
        ("test_efficientnet", b""),
        ("test_efficientnet", flipped),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"^weights='.*weights\.pth' .*backbone='{backbone}'") as caught:
            create_backbone(backbone, path)
        assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize("content", [b"no weights", None])
def test_weights_in_an_unreadable_file_raise(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights='.*weights\.pth'"):
        create_backbone("test_efficientnet", path)


def test_weights_not_to_be_had_offline_raise_with_ways_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"backbone='resnet18'.*Ways out.*weights=<path.*lite0.*weights=None"):
        create_backbone("resnet18")


def test_extractor_forward_is_extract_of_pyramid():
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None)
    images = torch.rand(2, 3, 97, 64, generator=torch.Generator().manual_seed(0))
    pyramid = extractor.pyramid(images)
    assert [tuple(p.shape) for p in pyramid] == [(2, 3, 97, 64), (2, 3, 49, 32), (2, 3, 25, 16)]
    torch.testing.assert_close(pyramid[0], (images - extractor.mean) / extractor.std)
    for features, expected in zip(extractor.extract(pyramid), extractor(images), strict=True):
        assert torch.equal(features, expected)


def test_extractor_pyramid_of_other_channels_raises():
    extractor = MultiScaleFeatureExtractor("test_efficientnet", weights=None)
    with pytest.raises(ValueError, match=r"Expected images of shape \(batch, 3, .*got \(2, 1, 64, 64\)"):
        extractor.pyramid(torch.rand(2, 1, 64, 64))
