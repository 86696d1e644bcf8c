"""The teacher's part of `mutation_list.py`: its equations, line by line.

Left out, because nothing could notice:

* `_BLOCK`, `TILE` and `CHUNK` by a factor, which are how work is cut up;
* `<=` as `<` where a bin is drawn: no draw meets a cumulative sum to the last bit;
* that a point lies in front of its camera: one behind is divided by 1e-5 m and falls outside of every image.
"""

UNITS = "tests/teacher/test_units.py"
CAMERAS = "tests/teacher/test_units_cameras.py"
PROPERTIES = "tests/teacher/test_properties.py"
TEACHER = "tests/teacher/test_teacher.py"
CHECKPOINT = "tests/teacher/test_checkpoint.py"
SUBMANIFOLD = f"{UNITS}::test_submanifold_conv"
SHARED_CELLS = f"{UNITS}::test_what_becomes_of_gaussians_that_share_a_cell"
PROBABILITIES = f"{UNITS}::test_probabilities"

TEACHER_MUTATIONS = {
    "occjax/teacher/anchors.py": [
        ("jnp.clip(x, -LOGIT_LIMIT, LOGIT_LIMIT)", "x", UNITS),
        ("2 * (x * y - w * z), 2", "2 * (x * y + w * z), 2", UNITS),
        ("ROTATION.stop + variant.has_opacity", "ROTATION.stop + 1", UNITS),
        ("jnp.maximum(jnp.sqrt(", "jnp.minimum(jnp.sqrt(", UNITS),
    ],
    "occjax/teacher/bilinear.py": [
        ("jnp.stack([left, left + 1, left, left + 1]", "jnp.stack([left, left, left + 1, left + 1]", UNITS),
        ("jnp.where(is_inside, weight, 0.0)", "weight", UNITS),
    ],
    "occjax/teacher/deformable_conv.py": [
        ("+ tap // 3 - 1", "+ tap % 3 - 1", f"{UNITS}::test_deformable_conv"),
        ("share = share * mask[..., None]", "pass", f"{UNITS}::test_deformable_conv"),
    ],
    "occjax/teacher/resnet.py": [
        ("1 if index == 0 else 2", "2", f"{UNITS}::test_resnet"),
    ],
    "occjax/teacher/necks.py": [
        ("merged[fine] + nearest(", "nearest(", f"{UNITS}::test_feature_pyramid_with_odd_sizes"),
        ("jnp.arange(n) * m // n", "(jnp.arange(n) * m + m - 1) // n", f"{UNITS}::test_feature_pyramid_with_odd_sizes"),
        (
            "conv(extra, levels[-1],",
            "conv(extra, jax.nn.relu(levels[-1]),",
            f"{UNITS}::test_feature_pyramid_with_odd_sizes",
        ),
        ('"bhwc,cijd->bhiwjd"', '"bhwc,cjid->bhiwjd"', f"{UNITS}::test_depth_features"),
    ],
    "occjax/teacher/farthest_points.py": [
        ("jnp.minimum(nearest, jnp.square", "jnp.maximum(nearest, jnp.square", f"{UNITS}::test_farthest_points"),
    ],
    "occjax/teacher/lifter.py": [
        ("EMPTY), likeliest != EMPTY", "EMPTY), likeliest == likeliest", CAMERAS),
        ("(jnp.arange(w) + 0.5) / w", "jnp.arange(w) / w", CAMERAS),
        ("(points >= lower) & (points < upper)", "(points >= lower)", CAMERAS),
        ("JITTER_M * jitter", "jitter", CAMERAS),
        ("jnp.concatenate([lifted, stored])", "jnp.concatenate([stored, lifted])", CAMERAS),
    ],
    "occjax/teacher/key_points.py": [
        ("- 0.5) * variant.learned_reach", ") * variant.learned_reach", CAMERAS),
        ("offsets * scales_m(anchors, variant)[:, None]", "offsets", CAMERAS),
    ],
    "occjax/teacher/deformable_aggregation.py": [
        ("for size in sizes], jnp.float32) - 0.5", "for size in sizes], jnp.float32)", CAMERAS),
        ("jnp.where(mask, logits, -jnp.inf)", "logits", CAMERAS),
        ("of_query[:, None] + of_camera[None] + bias", "of_query[:, None] + bias", CAMERAS),
        ("rank[..., -1].max()", "rank[..., 0].max()", CAMERAS),
    ],
    "occjax/teacher/submanifold_conv.py": [
        ("neighbours.represents[:, None], before, 0.0", "neighbours.represents[:, None], before, before", SUBMANIFOLD),
        ("collect(of_cells, slice(0, CENTRE))", "collect(x, slice(0, CENTRE))", SUBMANIFOLD),
        ("collect(x, slice(CENTRE + 1, TAPS))", "collect(of_cells, slice(CENTRE + 1, TAPS))", SUBMANIFOLD),
        (".min(numbers)", ".max(numbers)", SUBMANIFOLD),
        ('x if rule == "one_of" else', "", SHARED_CELLS),
        ('if rule == "cpu_last":', "if False:", SHARED_CELLS),
        ("((means - LOWER_M) / cell_m)", "(means / cell_m)", f"{UNITS}::test_submanifold_block"),
    ],
    "occjax/teacher/refinement.py": [
        ("features + embedding", "features", f"{UNITS}::test_refinement"),
        ("2 * sigmoid(update[:, POSITION]) - 1", "sigmoid(update[:, POSITION])", f"{UNITS}::test_refinement"),
        ("step * (4 * np.array", "step * (np.array", f"{UNITS}::test_refinement"),
    ],
    "occjax/teacher/feed_forward.py": [
        ('return y + linear(weights["shortcut"], x) if', "return y if", f"{UNITS}::test_feed_forward"),
    ],
    "occjax/teacher/splat.py": [
        ("(2 * math.pi) ** -1.5 / gaussians.scales.prod(-1)", "(2 * math.pi) ** -1.5", PROBABILITIES),
        ("-jnp.expm1(sums.log_free)", "-sums.log_free", PROBABILITIES),
        ("voxel + 0.5) * grid.voxel_size_m", "voxel) * grid.voxel_size_m", PROBABILITIES),
        ("gaussians.scales if per_axis else", "", PROBABILITIES),
        ("jnp.maximum(jnp.ceil(", "jnp.maximum(jnp.floor(", PROBABILITIES),
        ("matrix[:, i, j] * offset", "matrix[:, j, i] * offset", PROBABILITIES),
        ("sums.values.at[..., -1].add(", "sums.values.at[..., 0].add(", f"{UNITS}::test_sums_of_version_1"),
        ("per_axis = -(-2 * max_radius // TILE) + 1", "per_axis = 1", PROBABILITIES),
    ],
    "occjax/teacher/draws.py": [
        ('*np.frombuffer(digest, "<u4").tolist(), index]', '*np.frombuffer(digest, "<u4").tolist()]', PROPERTIES),
        ("hashlib.sha256(token.encode())", 'hashlib.sha256(b"")', PROPERTIES),
    ],
    "occjax/teacher/teacher.py": [
        ("if (most := int(state.most_cameras)) <= room:", "if True:", TEACHER),
        ("matrices = cropped_from_lidar(pixel_from_lidar)", "matrices = pixel_from_lidar", TEACHER),
    ],
}
