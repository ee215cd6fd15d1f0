//! What other tools call the keys and values of a pipeline.

/// A key of another tool (PEFT, HF Trainer, axolotl, LLaMA-Factory), and where a pipeline says the same.
const SYNONYMS: &[(&str, &str)] = &[
    ("accuracy_min", "metrics: { accuracy: { min: X } }"),
    ("adapter", "adapt: [lora: { .. }]"),
    ("base_model", "model: { source: .. }"),
    ("batch_size", "train.batch"),
    ("bf16", "nothing: a model is trained in the element types of its file"),
    ("block_size", "block"),
    ("checkpoint_every", "train.checkpoint: { every: 200 steps }"),
    ("cutoff_len", "data.max_length"),
    ("dataset", "data.train and data.eval"),
    ("datasets", "data.train and data.eval"),
    ("device", "runtime.provider"),
    ("dtype", "nothing: a model is trained in the element types of its file"),
    ("eval_batch_size", "train.eval_batch"),
    ("early_stopping_patience", "train.stop: { patience: N }"),
    ("early_stopping_threshold", "train.stop: { min_delta: X }"),
    ("eval_steps", "train.evaluate: { every: N steps }"),
    ("eval_strategy", "train.evaluate: { every: 1 epoch }"),
    ("evaluation_strategy", "train.evaluate: { every: 1 epoch }"),
    ("load_best_model_at_end", "train.checkpoint: { every: 1 epoch, best: METRIC }"),
    ("metric_for_best_model", "train.checkpoint: { every: 1 epoch, best: METRIC }"),
    ("eval_file", "data.eval"),
    ("execution_provider", "runtime.provider"),
    ("fp16", "nothing: a model is trained in the element types of its file"),
    ("gradient_accumulation_steps", "train.accumulate"),
    ("gradient_clipping", "train.clip"),
    ("learning_rate", "train.optimizer: { adamw: { lr: X } }"),
    ("load_in_4bit", "nothing: a model is trained in the element types of its file"),
    ("load_in_8bit", "nothing: a model is trained in the element types of its file"),
    ("logging_dir", "log: { tensorboard: true }"),
    ("logging_steps", "nothing: every step is logged"),
    ("loraplus_lr_ratio", "train.lora_plus"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("lora_r", "rank"),
    ("lora_rank", "rank"),
    ("lora_target_modules", "targets"),
    ("lr_end", "train.schedule: { polynomial: { end: X } }"),
    ("lr_scheduler", "train.schedule"),
    ("lr_scheduler_type", "train.schedule"),
    ("max_grad_norm", "train.clip"),
    ("max_len", "data.max_length"),
    ("max_seq_len", "data.max_length"),
    ("max_seq_length", "data.max_length"),
    ("max_steps", "train.steps"),
    ("micro_batch_size", "train.batch"),
    ("min_lr", "train.schedule: { cosine: { min: X } }"),
    ("min_lr_rate", "train.schedule: { cosine: { min: X% } }"),
    ("model_name_or_path", "model: { source: .. }"),
    ("num_cycles", "train.schedule: { cosine: { restarts: N } }"),
    ("num_epochs", "train.epochs"),
    ("num_threads", "runtime.threads"),
    ("num_train_epochs", "train.epochs"),
    ("optim", "train.optimizer"),
    ("output_dir", "the option --out DIR"),
    ("per_device_eval_batch_size", "train.eval_batch"),
    ("per_device_train_batch_size", "train.batch"),
    ("perplexity_max", "metrics: { perplexity: { max: X } }"),
    ("r", "rank"),
    ("report_to", "log: { tensorboard: true }, or for others --set log.command=[PROGRAM, ARGUMENT]"),
    ("resume_from_checkpoint", "the option --resume FILE"),
    ("save_steps", "train.checkpoint: { every: 200 steps }"),
    ("save_total_limit", "train.checkpoint: { every: 200 steps, keep: 3 }"),
    ("sequence_len", "data.max_length"),
    ("target_modules", "targets"),
    ("tokenizer_name", "tokenizer: { source: .. }"),
    ("use_rslora", "rslora"),
    ("val_set_size", "data.eval: { split: X }"),
    ("torch_dtype", "nothing: a model is trained in the element types of its file"),
    ("train_file", "data.train"),
    ("validation", "data.eval"),
    ("validation_file", "data.eval"),
    ("wandb_project", "nothing in a file: --set log.command=[PROGRAM, ARGUMENT] is fed the lines of metrics.jsonl"),
    ("column_names", "columns"),
    ("delimiter", "separator"),
    ("quotechar", "quote"),
    ("sampling_weight", "weight"),
    ("sep", "separator"),
    ("test_size", "data.eval: { split: X }"),
    ("truncation_side", "data.truncate"),
    ("validation_split", "data.eval: { split: X }"),
    ("validation_split_percentage", "data.eval: { split: X }"),
    ("warmup_ratio", "train.schedule: { linear: { warmup: X } }"),
    ("warmup_steps", "train.schedule: { linear: { warmup: N steps } }"),
];

/// Where a pipeline says what another tool says with this key.
pub(super) fn synonym(key: &str) -> Option<&'static str> {
    SYNONYMS.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours)
}

/// A value of another tool, and the one that says the same.
const VALUES: &[(&str, &str)] = &[
    ("adamw_8bit", "adamw"),
    ("adamw_bnb_8bit", "adamw"),
    ("adamw_hf", "adamw"),
    ("adamw_torch", "adamw"),
    ("adamw_torch_fused", "adamw"),
    ("average", "mean"),
    ("avg", "mean"),
    ("causal", "causal_lm"),
    ("classification", "classify"),
    ("clm", "causal_lm"),
    ("completion", "causal_lm"),
    ("constant_with_warmup", "constant"),
    ("cosine_with_min_lr", "cosine"),
    ("cosine_with_restarts", "cosine"),
    ("cudaexecutionprovider", "cuda"),
    ("cpuexecutionprovider", "cpu"),
    ("first", "cls"),
    ("fine_tune", "full"),
    ("finetune", "full"),
    ("full_finetune", "full"),
    ("gpu", "cuda"),
    ("huggingface", "peft"),
    ("json", "jsonl"),
    ("jsonlines", "jsonl"),
    ("language_modeling", "causal_lm"),
    ("linear_with_warmup", "linear"),
    ("lion_32bit", "lion"),
    ("momentum", "sgd"),
    ("lion_8bit", "lion"),
    ("inverse_square_root", "inverse_sqrt"),
    ("lm", "causal_lm"),
    ("mps", "cpu"),
    ("ndjson", "jsonl"),
    ("nvidia", "cuda"),
    ("paged_adamw_8bit", "adamw"),
    ("poly", "polynomial"),
    ("pretrain", "causal_lm"),
    ("processor", "cpu"),
    ("qlora", "lora"),
    ("regression", "regress"),
    ("safetensors", "peft"),
    ("seq_cls", "classify"),
    ("sequence_classification", "classify"),
    ("sft", "causal_lm"),
    ("text", "txt"),
    ("text_classification", "classify"),
    ("text-classification", "classify"),
    ("text-generation", "causal_lm"),
    ("text_generation", "causal_lm"),
];

/// What a pipeline says for a value of another tool; case does not count.
pub(super) fn value_synonym(value: &str) -> Option<&'static str> {
    let value = value.to_lowercase();
    VALUES.iter().find(|(theirs, _)| *theirs == value).map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_tools_are_known_in_any_case() {
        assert_eq!(
            (value_synonym("GPU"), value_synonym("adamw_torch"), value_synonym("cuda")),
            (Some("cuda"), Some("adamw"), None)
        );
        assert_eq!(value_synonym("CUDAExecutionProvider"), Some("cuda"));
        assert!(VALUES.iter().all(|(theirs, ours)| theirs != ours && value_synonym(ours).is_none()));
    }
}
