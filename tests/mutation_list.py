"""The mutations of tests/mutations.py by file: old text, new text, and the tests that have to notice.

Left out, because nothing could notice:

* the order of flip and rotation in `sample_image_augmentation`: turned by θ before or by −θ after a flip is the same
  matrix, and both angles are as likely;
* `data.prefetch` and other amounts of reading ahead: batches do not depend on them;
* the floors below which a logarithm or a division is kept, by a factor: no result shows their last digits.
"""

OBJECTIVE = "tests/train/test_objective.py"
STEP = "tests/train/test_step_to_step.py"
TURN = "tests/models/test_lift_augmented.py"
LIFT = "tests/models/test_view_transform.py"
SUM_OR_MEAN = f"{LIFT}::test_sum_keeps_depth_confidence_and_mean_drops_it"
SPLAT = "tests/models/test_splat.py"
OCC3D = "tests/data/test_occ3d_samples.py"
AUGMENT = "tests/data/test_augment.py"
LIDAR = "tests/data/test_lidar.py"
IMAGES = "tests/data/test_images.py"
PIPELINE = "tests/data/test_pipeline.py"
IN_ORDER = f"{PIPELINE}::test_evaluation_is_finite_in_order_and_rewinds"
SHARED = f"{PIPELINE}::test_processes_share_each_batch_without_overlap_or_loss"
RESUMED = f"{PIPELINE}::test_resume_continues_exactly_even_with_other_workers"
EPOCHS = f"{PIPELINE}::test_every_epoch_has_each_sample_once_in_a_new_order"
SAMPLES = "tests/data/test_samples.py"
GEOMETRY = "tests/test_geometry.py"
GRID_MAP = "tests/test_grid_map.py"
LABELS = "tests/test_label_sets.py"
OCCUPANCY = "tests/losses/test_occupancy.py"
CROSS_ENTROPY = f"{OCCUPANCY}::test_cross_entropy_by_hand"
SEMANTIC = (
    f"{OCCUPANCY}::test_semantic_affinity_by_hand {OCCUPANCY}::test_semantic_affinity_tells_precision_from_recall"
)
GEOMETRIC = f"{OCCUPANCY}::test_geometric_affinity_ignores_the_kind_of_occupied"
LOVASZ = f"{OCCUPANCY}::test_lovasz_gradient_is_the_growth_of_the_jaccard_loss"
DISTILLATION = "tests/losses/test_distillation.py"
BY_HAND = f"{DISTILLATION}::test_two_voxels_by_hand"
DENSE = f"{DISTILLATION}::test_sparse_terms_equal_dense_ones_in_value_and_gradient"
TOTAL = "tests/losses/test_total.py"
BALANCE = "tests/train/test_class_balance.py"
WEIGHTS = "tests/losses/test_class_weights.py"
DEPTH = "tests/losses/test_depth.py"
SUBSTITUTES = "tests/data/test_substitutes.py"
INDEX = "tests/data/test_index.py"
PROTOCOLS = "tests/metrics/test_protocols.py"
RAYIOU = "tests/metrics/test_rayiou.py"
CODEC = "tests/targets/test_codec.py"
VALUES = "tests/convert/dump/test_values.py"
TEACH = "tests/convert/weights/test_teach.py"
MAPS = "tests/convert/dump/test_maps_and_resample.py"
HISTOGRAM = "tests/system/test_cpu.py::test_both_spellings_of_a_histogram"
CHECKPOINT = "tests/train/test_checkpoint.py"

MUTATIONS = {
    "occjax/geometry.py": [
        ("2 * (x * y - w * z)", "2 * (x * y + w * z)", GEOMETRY),
        ("2 * (x * z - w * y)", "2 * (x * z + w * y)", GEOMETRY),
        ("q / norm", "q", GEOMETRY),
        ("-rotation_t @", "rotation_t @", GEOMETRY),
        ("np.swapaxes(dst_from_src[..., :3, :3], -1, -2)", "dst_from_src[..., :3, :3]", GEOMETRY),
        ("points @ dst_from_src[:3, :3].T +", "points @ dst_from_src[:3, :3] +", GEOMETRY),
    ],
    "occjax/grid.py": [
        ("np.floor((np.asarray(points_m)", "np.rint((np.asarray(points_m)", GEOMETRY),
        ("(index < self.shape)", "(index <= self.shape)", GEOMETRY),
        ("(np.arange(n) + 0.5) * self.voxel_size_m", "np.arange(n) * self.voxel_size_m", GEOMETRY),
        ("src_from_dst[:3, :3].T.astype", "src_from_dst[:3, :3].astype", GEOMETRY),
        ("np.all(start + inner.shape <= np.array(self.shape))", "True", GEOMETRY),
    ],
    "occjax/grid_map.py": [
        ("np.linalg.inv(augmented_from_grid)", "augmented_from_grid", f"{GRID_MAP} {TURN}"),
        ("_index(c * x[:, None] + d * y,", "_index(b * x[:, None] + d * y,", GRID_MAP),
        ("moved[..., self.layers < 0] = outside", "pass", GRID_MAP),
    ],
    "occjax/label_sets.py": [
        ("counted & (camera_mask != 0)", "counted", PROTOCOLS),
        ("counted & (semantics != ignored)", "counted", PROTOCOLS),
        ("(semantics < NUM_CLASSES)", "(semantics <= 255)", PROTOCOLS),
        ("(x * shape[1] + y) * shape[2] + z", "(y * shape[1] + x) * shape[2] + z", LABELS),
        ('names = ("semantics", "mask_camera")', 'names = ("semantics", "mask_lidar")', LABELS),
    ],
    "occjax/data/augment.py": [
        ("config.image_flip and rng.uniform() < 0.5", "config.image_flip and rng.uniform() < 0.0", AUGMENT),
        ("config.bev_flip_y and rng.uniform() < 0.5", "config.bev_flip_y and flip_x", AUGMENT),
        ("rng.uniform(-1, 1) * limit_deg", "rng.uniform(0, 1) * limit_deg", AUGMENT),
        ("return rng.uniform(low, high)", "return low", AUGMENT),
        ("config.bev_rotate_deg or", "", AUGMENT),
        ("-scale if flip_y else scale, 1.0])", "-scale if flip_y else scale, scale])", AUGMENT),
    ],
    "occjax/data/images.py": [
        ("to_half[:2, 2], from_half[:2, 2] = 0.5, -0.5", "pass", IMAGES),
        ("cv2.IMREAD_COLOR_RGB", "cv2.IMREAD_COLOR", IMAGES),
        ("not width % r and not height % r", "True", IMAGES),
    ],
    "occjax/data/lidar.py": [
        ("(depth < max_m)", "(depth <= max_m)", LIDAR),
        ("(depth >= MIN_DEPTH_M)", "(depth > MIN_DEPTH_M)", LIDAR),
        ("np.minimum.at(", "np.fmax.at(", LIDAR),
        ("input_from_pixel @ pixel_from_cam", "pixel_from_cam", LIDAR),
    ],
    "occjax/data/samples.py": [
        ("self._split.cam_from_lidar[row, self._columns]", "self._split.cam_from_ego[row, self._columns]", OCC3D),
        ("grid_map.gather(camera_mask, False)", "camera_mask", OCC3D),
        ("grid_map.gather(camera_mask, False)", "grid_map.gather(camera_mask, True)", OCC3D),
        ('if self._grid.frame == "lidar" else', "if True else", f"{TURN} {SAMPLES}"),
        ("grid_map.gather(semantics, IGNORE)", "grid_map.gather(semantics, 17)", OCC3D),
    ],
    "occjax/data/pipeline.py": [
        (".shuffle()", ".shuffle(0)", EPOCHS),
        ("is_valid=position < count", "is_valid=position <= count", IN_ORDER),
        ("max_skipped))[process_index::", "max_skipped))[::", SHARED),
        ("self._next_batch += 1", "self._next_batch = 1", RESUMED),
    ],
    "occjax/data/tables.py": [
        (
            '(s["scene_token"], s["timestamp"])',
            '(s["scene_token"], -s["timestamp"])',
            f"{INDEX}::test_samples_are_ordered_by_scene_token_then_time",
        ),
        (
            "cam_from_global @ global_from_ego[:, None]",
            "cam_from_global @ global_from_lidar[:, None]",
            f"{INDEX}::test_transforms_use_each_sensors_own_timestamp",
        ),
    ],
    "occjax/data/substitutes.py": [("rng.bit_generator.state = state", "pass", SUBSTITUTES)],
    "occjax/models/view_transform.py": [
        ("bev[..., row, axis] * axes[axis]", "bev[..., axis, row] * axes[axis]", TURN),
        ("inside, ix * size_y + iy", "inside, iy * size_x + ix", TURN),
        ("(jnp.arange(config.bins) + 0.5)", "jnp.arange(config.bins)", f"{LIFT}::test_depth_centres"),
        ("& rig.is_present[..., None, None, None]", "", f"{LIFT}::test_missing_cameras_put_nothing_on_the_grid"),
        ("u, v = u - entry(a, 0, 2), v - entry(a, 1, 2)", "u, v = u - entry(a, 0, 2), v", TURN),
        ("bev[..., :-1] / (bev[..., -1:] + 1e-6)", "bev[..., :-1]", SUM_OR_MEAN),
    ],
    "occjax/models/splat.py": [
        ("(row - (last_row - rows)[known]) * ROW", "(row - (last_row - rows)[known])", SPLAT),
        ("-(-jnp.diff(start) // ROW)", "(jnp.diff(start) // ROW)", SPLAT),
        ("place < start[known + 1][:, None]", "place <= start[known + 1][:, None]", SPLAT),
        ("pixel = point // d", "pixel = point % context.shape[0]", SPLAT),
        ('mode="fill", fill_value=0', 'mode="clip"', SPLAT),
    ],
    "occjax/models/preprocess.py": [
        ("IMAGE_STD = (58.395, 57.12, 57.375)", "IMAGE_STD = (57.375, 57.12, 58.395)", STEP),
        ("maxval=BRIGHTNESS), 0.0)", "maxval=BRIGHTNESS), 8.0)", "tests/models/test_preprocess.py"),
    ],
    "occjax/system/cpu.py": [
        ("(cell % bins > 0)", "(cell % bins > 1)", HISTOGRAM),
        ("is_class & counted[..., None], voxels", "is_class, voxels", HISTOGRAM),
    ],
    "occjax/losses/occupancy.py": [
        ("counted * jnp.asarray(weights)[target]", "counted", CROSS_ENTROPY),
        ("1 - (predicted - inside) / jnp.maximum(others, 1.0)", "1.0 - 0 * predicted", SEMANTIC),
        ("recall = inside / jnp.maximum(actual, 1.0)", "recall = precision", SEMANTIC),
        ("falling = histogram[..., ::-1]", "falling = histogram", LOVASZ),
        ("occupied = 1 - probs[..., FREE]", "occupied = probs[..., FREE]", GEOMETRIC),
        ("counted & is_valid[:, None, None, None]", "counted", f"{TOTAL}::test_padding_counts_nothing"),
    ],
    "occjax/losses/total.py": [
        ("if balanced else np.ones", "if not balanced else np.ones", BALANCE),
        ("class_weights(class_counts, ignored", "class_weights(OCC3D_CLASS_COUNTS, ignored", BALANCE),
        ("weights[name] * value", "value", f"{TOTAL}::test_every_term_is_named_weighted_and_added_once"),
    ],
    "occjax/losses/class_weights.py": [
        ("1 / np.log(", "np.log(", WEIGHTS),
        ("weights[list(ignored)] = 0", "pass", WEIGHTS),
        ("(OCC3D_CLASS_COUNTS.sum() / counts.sum())", "1", WEIGHTS),
    ],
    "occjax/losses/depth.py": [
        ("(depth_m < config.max_m)", "(depth_m <= config.max_m)", DEPTH),
        ("& is_present[..., None, None]", "", DEPTH),
        ("jnp.where(is_target, log_probs, log_rest)", "jnp.where(is_target, log_probs, 0)", DEPTH),
    ],
    "occjax/losses/distillation.py": [
        ("return kl * sample.config.temperature**2", "return kl", DENSE),
        (
            "jnp.exp(voxels.target) * (voxels.target - voxels.student)",
            "jnp.exp(voxels.student) * (voxels.student - voxels.target)",
            BY_HAND,
        ),
        ("camera_mask if config.use_camera_mask else None", "None", "tests/losses/test_camera_mask.py"),
        ("is_occupied & target.valid", "target.valid", DENSE),
        ("- log_total + log_mass", "", DENSE),
    ],
    "occjax/losses/comparison.py": [
        ("free_share / jnp.maximum(num_free, 1)", "1 / jnp.maximum(num_free, 1)", DENSE),
    ],
    "occjax/targets/codec.py": [
        ("* tail_scale)", ")", CODEC),
        ("nibbles[0::2] | (nibbles[1::2] << 4)", "nibbles[1::2] | (nibbles[0::2] << 4)", CODEC),
        ("free.astype(xp.float32) * FREE_LOGIT_STEP", "(255 - free.astype(xp.float32)) * FREE_LOGIT_STEP", CODEC),
    ],
    "occjax/targets/column_rule.py": [
        ("mass / mass.sum(-1, keepdims=True)", "mass", CODEC),
        ("column_log_probs(log_free.sum(-1),", "column_log_probs(log_free.max(-1),", CODEC),
    ],
    "occjax/targets/files.py": [("occupied <= threshold", "occupied < 1", "tests/targets/test_files.py")],
    "occjax/targets/folder.py": [
        ("if found.token != token:", "if False:", "tests/targets/test_folder.py::test_swapped_files_are_refused")
    ],
    "occjax/targets/moving.py": [
        ("column) * np.int32(grid.shape[2]) +", "column) * np.int32(grid.shape[1]) +", "tests/targets/test_moving.py"),
        ("inside &= np.unpackbits", "inside |= np.unpackbits", "tests/targets/test_moving.py"),
    ],
    "occjax/metrics/confusion.py": [
        (
            "truth.astype(np.uint16) * np.uint16(num_classes) + prediction.astype(np.uint16)",
            "prediction.astype(np.uint16) * np.uint16(num_classes) + truth.astype(np.uint16)",
            PROTOCOLS,
        ),
        ("self.counts.sum(0) + self.counts.sum(1) - self.hits", "self.counts.sum(1)", PROTOCOLS),
        ("np.arange(len(self.counts)) != FREE", "np.arange(len(self.counts)) >= 0", PROTOCOLS),
    ],
    "occjax/metrics/protocols.py": [
        ("self.label_set.counted(semantics, camera_mask))", "self.label_set.counted(semantics))", PROTOCOLS),
        ("iou_without_truth=1.0", "iou_without_truth=None", PROTOCOLS),
    ],
    "occjax/pooling.py": [("semantics.shape[-1] - 1 - from_top", "from_top", "tests/test_pooling.py")],
    "occjax/metrics/bev.py": [("np.asarray(counted.any(-1))", "np.asarray(counted.all(-1))", PROTOCOLS)],
    "occjax/metrics/rayiou.py": [
        ("(error_m < limit)", "(error_m <= limit)", RAYIOU),
        ("np.abs(positions_m[:, :2]) < _ORIGIN_LIMIT_M", "np.abs(positions_m[:, :2]) <= _ORIGIN_LIMIT_M", RAYIOU),
        ("counts = labels[0] < FREE", "counts = labels[0] <= FREE", RAYIOU),
        ("invert_rigid(split.global_from_ego[row])", "invert_rigid(split.global_from_lidar[row])", RAYIOU),
    ],
    "occjax/metrics/ray_casting.py": [
        ("np.where(gone, left_at[met], leaves_at[met])", "left_at[met]", "tests/metrics/test_ray_casting.py"),
        ("np.trunc(start)", "np.floor(start)", "tests/metrics/test_ray_casting.py"),
    ],
    "occjax/metrics/prior.py": [
        ("NUM_CLASSES - 1 - counts[..., ::-1].argmax(-1)", "counts.argmax(-1)", "tests/metrics/test_prior.py")
    ],
    "occjax/train/step.py": [
        ("jax.random.fold_in(jax.random.key(config.seed), state.step)", "jax.random.key(config.seed)", STEP),
        ('params["student"], batch_stats, state.step', 'params["student"], state.batch_stats, state.step', STEP),
        ("if learner.config.augment.photometric:", "if False:", STEP),
    ],
    "occjax/train/objective.py": [
        ("jax.tree.map(jnp.add, of_supervision, of_distillation)", "of_supervision", OBJECTIVE),
        ("jax.tree.map(jnp.add, of_supervision, of_distillation)", "of_distillation", OBJECTIVE),
        ("config.grid.build(), _camera_mask(batch)", "config.grid.build(), None", OBJECTIVE),
        ('scalars["distill_in_mask"] = ', "_ = ", OBJECTIVE),
        ("class_counts=learner.class_counts,", "", BALANCE),
        ("[weighted_sum({name: terms[name]}, weights) for", "[terms[name] for", OBJECTIVE),
    ],
    "occjax/train/state.py": [
        ('return self.ema["params"], self.ema["batch_stats"]', 'return self.params["student"], self.batch_stats', STEP),
        ("old * kept + new * (1 - kept)", "new * kept + old * (1 - kept)", STEP),
    ],
    "occjax/train/optimizer.py": [
        ("p.ndim >= 2", "p.ndim >= 1", "tests/train/test_optimizer.py"),
        ("optax.clip_by_global_norm(config.clip_norm)", "optax.identity()", "tests/train/test_optimizer.py"),
        ("config.warmup_factor * peak, peak", "peak, peak", "tests/train/test_optimizer.py"),
    ],
    "occjax/predict/stored_weights.py": [('if which == "raw":', 'if which == "ema":', CHECKPOINT)],
    "occjax/train/checkpoint.py": [('best_mode="max"', 'best_mode="min"', CHECKPOINT)],
    "occjax/train/class_counts.py": [
        ('config.loss.class_counts == "occ3d" or', "True or", "tests/train/test_class_counts.py"),
        ("if label_set_of_run.counted(", "if not label_set_of_run.counted(", "tests/train/test_class_counts.py"),
    ],
    "occjax/run/train.py": [
        ("self.state.student(self.config.eval.weights)", 'self.state.student("raw")', "tests/run/test_validations.py"),
    ],
    "occjax/storage.py": [("scratch = path.with_name(", "scratch = path or path.with_name(", "tests/test_storage.py")],
    "occjax/convert/torch_names.py": [
        ('"bev_conv": (3, 2, 1, 0)', '"bev_conv": (2, 3, 1, 0)', "tests/convert/test_torch_names.py"),
        (
            '"running_mean", "var": "running_var"',
            '"running_var", "var": "running_mean"',
            "tests/parity/test_random_golden.py",
        ),
    ],
    "occjax/convert/torch_zip.py": [
        ("bits.astype(np.uint32) << 16", "bits.astype(np.uint32) << 15", "tests/convert/test_torch_zip.py"),
        ("values[self._offset :]", "values", "tests/convert/test_torch_zip.py"),
    ],
    "occjax/convert/dump/values.py": [
        ("rows /= total", "pass", VALUES),
        ("np.prod(1 - occupied, axis=0)", "np.min(1 - occupied, axis=0)", VALUES),
        ("if c != free_id] + [free_id]", "if c != free_id][::-1] + [free_id]", VALUES),
    ],
    "occjax/convert/dump/resample.py": [
        ("np.where(corner, weight, 1 - weight)", "np.where(corner, 1 - weight, weight)", MAPS),
        ("position[inside] - 0.5", "position[inside]", MAPS),
    ],
    "occjax/convert/dump/bev_maps.py": [
        ("np.rot90(bev, -rotate_k", "np.rot90(bev, rotate_k", MAPS),
        ("for class_id in reversed(priority_ids)", "for class_id in priority_ids", MAPS),
    ],
    "occjax/convert/dump/tasks.py": [("(task.target, *task.surface_paths.values())))]", "(task.target,)))]", TEACH)],
    "occjax/convert/weights/teach.py": [("every[number::count]", "every[number * len(every) // count :]", TEACH)],
}
