use super::*;
use crate::output::sha256;
use std::os::unix::fs::symlink;

/// An output folder, and what is in it.
struct Out(TempDir);

impl Out {
    fn new() -> Out {
        Out(tempfile::tempdir().expect("temp"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.at(name).parent().expect("a folder")).expect("makes");
        std::fs::write(self.at(name), text).expect("writes");
    }

    /// Files of an earlier run, with the manifest that lists them.
    fn earlier(&self, files: &[&str]) {
        let artifact = |name: &&str| {
            self.write(name, "old");
            Artifact { path: name.to_string(), sha256: sha256(b"old"), size: 3, kind: "model".into() }
        };
        let artifacts: Vec<Artifact> = files.iter().map(artifact).collect();
        let manifest = serde_json::json!({"lorac_version": "0", "artifacts": artifacts});
        self.write(MANIFEST, &manifest.to_string());
    }

    fn open(&self) -> Folder {
        Folder::open(self.0.path(), "test").unwrap_or_else(|e| panic!("{e}"))
    }

    /// Why the folder cannot be opened.
    fn refused(&self) -> Error {
        Folder::open(self.0.path(), "test").err().expect("refused")
    }

    /// Opens the folder and puts these files into it, as a run does.
    fn run(&self, files: &[&str], kept: &[u64]) -> Result<Vec<PathBuf>, OutputError> {
        let mut folder = self.open();
        assert_eq!(folder.begin(&[]).expect("begins").write(&first()), None);
        for step in [7, 8] {
            checkpoint(step).save(&folder.checkpoints()).expect("saves");
        }
        let stage = folder.stage().expect("a stage");
        let mut all = vec![(folder.log(), PathBuf::from(METRICS))];
        for name in files.iter().copied().chain([MANIFEST]) {
            let staged = stage.path().join(name);
            std::fs::create_dir_all(staged.parent().expect("a folder")).expect("makes");
            std::fs::write(&staged, "new").expect("writes");
            all.push((staged, name.into()));
        }
        folder.commit(&stage, &all, &kept.iter().copied().collect())
    }

    /// All files with what is in them, by their names.
    fn files(&self) -> Vec<(String, String)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.0.path().to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("lists").flatten() {
                match entry.file_type().expect("a type") {
                    t if t.is_dir() => folders.push(entry.path()),
                    _ => {
                        let name = entry.path().strip_prefix(self.0.path()).expect("below").display().to_string();
                        found.push((name, std::fs::read_to_string(entry.path()).unwrap_or_default()));
                    }
                }
            }
        }
        found.sort();
        found
    }
}

pub(super) fn checkpoint(step: u64) -> lorac_train::Checkpoint {
    let tensors = vec![("theta/w".into(), lorac_ir::Tensor::vector(&[0.0f32]))];
    let about = [("run".to_string(), "1".to_string())].into();
    lorac_train::Checkpoint { step, tensors, history: lorac_train::History::default(), about }
}

/// The first line of a log.
fn first() -> serde_json::Value {
    serde_json::json!({"eval": "before", "lorac_version": "0"})
}

fn named(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
}

#[test]
fn a_folder_holds_the_files_of_one_run() {
    let out = Out::new();
    out.earlier(&["model.onnx", "adapter/a", "adapter/b", METRICS]);
    checkpoint(3).save(&out.at(CHECKPOINTS)).expect("saves");
    checkpoint(4).save(&out.at("unfinished/checkpoints")).expect("saves");
    out.write("notes.txt", "mine");
    assert_eq!(out.run(&["model.onnx", "head/h"], &[8]).expect("commits"), Vec::<PathBuf>::new());
    let saved = std::fs::read_to_string(out.at("checkpoints/step-8.safetensors")).unwrap_or_default();
    let log = format!("{}\n", first());
    let want = [
        ("checkpoints/step-8.safetensors", saved.as_str()),
        ("head/h", "new"),
        (MANIFEST, "new"),
        (METRICS, log.as_str()),
        ("model.onnx", "new"),
        ("notes.txt", "mine"),
    ];
    assert_eq!(out.files(), named(&want));
    assert!(!out.at("adapter").exists() && !out.at(UNFINISHED).exists());
}

#[test]
fn a_file_that_somebody_has_changed_stays_and_is_named() {
    let out = Out::new();
    out.earlier(&["model.onnx", "adapter/a"]);
    out.write("adapter/a", "mine");
    assert_eq!(out.run(&["model.onnx"], &[]).expect("commits"), [PathBuf::from("adapter/a")]);
    assert!(out.files().contains(&("adapter/a".into(), "mine".into())), "{:?}", out.files());
}

#[test]
fn what_fails_on_the_way_leaves_the_folder_as_it_was() {
    let out = Out::new();
    out.earlier(&["model.onnx", "adapter/a", METRICS]);
    checkpoint(3).save(&out.at(CHECKPOINTS)).expect("saves");
    let before = out.files();
    let mut folder = out.open();
    assert_eq!(folder.begin(&[]).expect("begins").write(&first()), None);
    let stage = folder.stage().expect("a stage");
    std::fs::write(stage.path().join("model.onnx"), "new").expect("writes");
    let file = |name: &str| (stage.path().join(name), PathBuf::from(name));
    let missing = [(folder.log(), METRICS.into()), file("model.onnx"), file("report.html")];
    assert!(folder.commit(&stage, &missing, &BTreeSet::new()).is_err());
    drop((stage, folder));
    let left: Vec<_> = out.files().into_iter().filter(|f| !f.0.starts_with(UNFINISHED)).collect();
    assert_eq!(left, before);
}

#[test]
fn what_lorac_has_not_written_is_in_the_way() {
    let out = Out::new();
    out.write("model.onnx", "mine");
    std::fs::create_dir(out.at("folder")).expect("makes");
    symlink(out.at("folder"), out.at("adapter")).expect("links");
    symlink(out.at("model.onnx"), out.at("link")).expect("links");
    let socket = std::os::unix::net::UnixListener::bind(out.at("socket")).expect("a socket");
    let folder = out.open();
    for (name, says) in [
        ("model.onnx", "no manifest lists it"),
        ("folder", "this is a folder"),
        ("adapter/a", "links are not followed"),
        ("model.onnx/a", "a folder of this name is needed"),
        ("socket", "not a regular file"),
    ] {
        let error = folder.check([Path::new(name)]).expect_err(name);
        assert!(matches!(&error, OutputError::InTheWay { .. }) && error.to_string().contains(says), "{error}");
    }
    // A link itself is replaced.
    folder.check(["link", "folder/new", "new/new"].map(Path::new)).expect("free");
    drop((socket, folder));
    out.run(&["link"], &[]).expect("commits");
    assert_eq!(std::fs::read_to_string(out.at("model.onnx")).expect("reads"), "mine");
    assert!(out.at("link").symlink_metadata().expect("is there").is_file());
}

#[test]
fn names_of_a_run_are_looked_at_when_the_folder_is_opened() {
    for name in [MANIFEST, METRICS, "unfinished/metrics.jsonl"] {
        let out = Out::new();
        std::fs::create_dir_all(out.at(name)).expect("makes");
        assert_eq!(out.refused().code(), "output::in_the_way", "{name}");
    }
    let out = Out::new();
    out.write(MANIFEST, "of another program");
    assert!(out.refused().to_string().contains("manifest.json is in the way"));
    let out = Out::new();
    out.write("checkpoints", "a file");
    assert!(out.refused().to_string().contains("a folder of this name is needed"));
}

#[test]
fn what_killed_runs_have_left_is_swept_and_nothing_else() {
    let out = Out::new();
    for name in [".lorac-cd34EF.tmp", "checkpoints/.lorac-ef5678.tmp", "unfinished/.lorac-AAAAAA.tmp"] {
        out.write(name, "half");
    }
    out.write(".lorac-ab12cd.tmp/adapter/x", "half");
    out.write(&format!(".lorac-ab12cd.tmp/{}", sweep::MARK), "");
    let mine = [".lorac-abcdef.tmp/x", ".lorac-mine.tmp", ".lorac-too-long.tmp", ".tmpXyz123", "unfinished/notes"];
    mine.iter().for_each(|name| out.write(name, "mine"));
    let kept = tempfile::tempdir().expect("temp");
    std::fs::write(kept.path().join("x"), "mine").expect("writes");
    symlink(kept.path().join("x"), out.at(".lorac-gh78ij.tmp")).expect("links");
    drop(out.open());
    let left = [&[".lorac-abcdef.tmp/x", ".lorac-gh78ij.tmp"], &mine[1..]].concat();
    let left: Vec<(&str, &str)> = left.into_iter().map(|name| (name, "mine")).collect();
    assert_eq!(out.files(), named(&left));
    // A stage bears the mark, and a killed run leaves it so.
    let folder = out.open();
    let stage = folder.stage().expect("a stage").keep();
    drop(folder);
    drop(out.open());
    assert!(!stage.exists());
}

#[test]
fn logs_and_checkpoints_of_others_are_in_the_way_and_stay() {
    let log = "{\"step\": 1, \"loss\": 2.5}\n";
    let names = [METRICS, "unfinished/metrics.jsonl", "checkpoints/step-5.safetensors"];
    for name in names.into_iter().chain(["unfinished/checkpoints/step-12.safetensors"]) {
        for earlier in [false, true] {
            let out = Out::new();
            if earlier {
                out.earlier(&["model.onnx"]);
            }
            out.write(name, log);
            let before = out.files();
            let error = out.refused();
            assert!(error.code() == "output::in_the_way" && error.to_string().contains(name), "{error}");
            assert_eq!(out.files(), before);
        }
    }
    // Others beside them are in nobody's way.
    let out = Out::new();
    let mine = [("checkpoints/mine.safetensors", "mine"), ("checkpoints/step-x.safetensors", "mine")];
    mine.iter().for_each(|(name, text)| out.write(name, text));
    out.run(&["model.onnx"], &[]).expect("commits");
    assert_eq!(out.files()[..2], named(&mine));
}

#[test]
fn what_comes_while_a_run_prepares_stays() {
    let out = Out::new();
    let mut folder = out.open();
    out.write(METRICS, "mine");
    assert_eq!(folder.begin(&[]).err().expect("in the way").code(), "output::in_the_way");
    assert_eq!(std::fs::read_to_string(out.at(METRICS)).expect("reads"), "mine");
}

#[test]
fn a_failed_run_without_an_earlier_result_leaves_log_and_checkpoints_in_their_places() {
    let out = Out::new();
    let mut folder = out.open();
    assert_eq!(folder.begin(&[]).expect("begins").write(&first()), None);
    checkpoint(2).save(&folder.checkpoints()).expect("saves");
    assert_eq!((folder.log(), folder.checkpoints()), (out.at(METRICS), out.at(CHECKPOINTS)));
    drop(folder);
    // The next run replaces both.
    out.run(&["model.onnx"], &[]).expect("commits");
    let left: Vec<String> = out.files().into_iter().map(|f| f.0).collect();
    assert_eq!(left, [MANIFEST, METRICS, "model.onnx"]);
}

#[test]
fn a_default_folder_is_no_link() {
    let root = tempfile::tempdir().expect("temp");
    let (all, own) = (root.path().join(DEFAULT), root.path().join("own"));
    std::fs::create_dir(&own).expect("makes");
    assert_eq!(default_folder(root.path(), "p").expect("free"), all.join("p"));
    symlink(&own, &all).expect("links");
    let error = default_folder(root.path(), "p").expect_err("a link");
    assert!(error.code() == "output::in_the_way" && error.to_string().contains("--out names it"), "{error}");
    std::fs::remove_file(&all).expect("removes");
    std::fs::create_dir(&all).expect("makes");
    for to in [own.clone(), root.path().join("missing")] {
        symlink(&to, all.join("p")).expect("links");
        assert!(
            default_folder(root.path(), "p").expect_err("a link").to_string().contains("lorac-out/p is in the way")
        );
        std::fs::remove_file(all.join("p")).expect("removes");
    }
    // One that the user names may be a link.
    symlink(&own, root.path().join("named")).expect("links");
    Folder::open(&root.path().join("named"), "test").unwrap_or_else(|e| panic!("{e}"));
}
