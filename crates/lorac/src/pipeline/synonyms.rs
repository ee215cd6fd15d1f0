//! What other tools call the keys of a pipeline.

/// A key of another tool (PEFT, HF Trainer, axolotl, LLaMA-Factory), and where a pipeline says the same.
const SYNONYMS: &[(&str, &str)] = &[
    ("accuracy_min", "metrics: { accuracy: { min: X } }"),
    ("adapter", "adapt: [lora: { .. }]"),
    ("base_model", "model: { source: .. }"),
    ("cutoff_len", "data.max_length"),
    ("datasets", "data.train and data.eval"),
    ("eval_batch_size", "train.eval_batch"),
    ("learning_rate", "train.optimizer: { adamw: { lr: X } }"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("lora_r", "rank"),
    ("lora_rank", "rank"),
    ("lora_target_modules", "targets"),
    ("lr_scheduler", "train.schedule"),
    ("lr_scheduler_type", "train.schedule"),
    ("max_grad_norm", "train.clip"),
    ("max_seq_length", "data.max_length"),
    ("max_steps", "train.steps"),
    ("micro_batch_size", "train.batch"),
    ("model_name_or_path", "model: { source: .. }"),
    ("num_epochs", "train.epochs"),
    ("num_train_epochs", "train.epochs"),
    ("optim", "train.optimizer"),
    ("output_dir", "the option --out DIR"),
    ("per_device_eval_batch_size", "train.eval_batch"),
    ("per_device_train_batch_size", "train.batch"),
    ("perplexity_max", "metrics: { perplexity: { max: X } }"),
    ("r", "rank"),
    ("save_steps", "train.checkpoint_every"),
    ("sequence_len", "data.max_length"),
    ("target_modules", "targets"),
    ("tokenizer_name", "tokenizer: { source: .. }"),
    ("use_rslora", "rslora"),
    ("val_set_size", "data.eval"),
    ("warmup_ratio", "train.schedule: { linear: { warmup: X } }"),
];

/// Where a pipeline says what another tool says with this key.
pub(super) fn synonym(key: &str) -> Option<&'static str> {
    SYNONYMS.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours)
}
