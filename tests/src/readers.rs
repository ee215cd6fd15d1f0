//! Readers of `.onnx` files that others wrote, where this machine has them: how many nodes, inputs, outputs and weights
//! each sees in a graph.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Nodes, inputs, outputs and initializers.
pub type Counts = [usize; 4];

/// A reader, and what a machine needs for it.
pub struct Reader {
    /// What it is, and where it comes from.
    pub needs: &'static str,
    read: fn(&Path) -> Option<Output>,
}

/// protobuf.js as `onnx-proto` packs it, Netron's own parser, and ONNX's checker.
pub static READERS: [Reader; 3] = [
    Reader { needs: "node and npm's onnx-proto, in a folder that NODE_PATH names", read: protobuf_js },
    Reader { needs: "node and a Python (`LORAC_PYTHON`, else python3) with netron", read: netron },
    Reader { needs: "a Python (`LORAC_PYTHON`, else python3) with onnx", read: checker },
];

impl Reader {
    /// What it sees in a file; none where this machine does not have it. Panics where it refuses the file.
    #[track_caller]
    pub fn counts(&self, file: &Path) -> Option<Counts> {
        let output = (self.read)(file)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let numbers: Vec<usize> = out.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        assert!(output.status.success(), "{}: {}: {err}", self.needs, file.display());
        Some(numbers.try_into().unwrap_or_else(|n| panic!("{}: {n:?} of {out}{err}", self.needs)))
    }
}

fn protobuf_js(file: &Path) -> Option<Output> {
    Command::new("node").args(["-e", "require('onnx-proto')"]).output().ok().filter(|o| o.status.success())?;
    let script =
        "const g = require('onnx-proto').onnx.ModelProto.decode(require('fs').readFileSync(process.argv[1])).graph;
        console.log(g.node.length, g.input.length, g.output.length, g.initializer.length)";
    Command::new("node").args(["-e", script]).arg(file).output().ok()
}

fn netron(file: &Path) -> Option<Output> {
    Command::new("node").arg("--version").output().ok()?;
    let found = python("import netron, os; print(os.path.dirname(netron.__file__))")?;
    let package = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    // Its files are modules by their content, not by their names.
    let folder = tempfile::tempdir().ok()?;
    for name in ["onnx-proto.js", "protobuf.js", "text.js"] {
        std::fs::copy(package.join(name), folder.path().join(name)).ok()?;
    }
    std::fs::write(folder.path().join("package.json"), r#"{"type":"module"}"#).ok()?;
    let script = "import { readFileSync } from 'fs';
        import { BinaryReader } from './protobuf.js';
        import { onnx } from './onnx-proto.js';
        const g = onnx.ModelProto.decode(BinaryReader.open(new Uint8Array(readFileSync(process.argv[2])))).graph;
        console.log(g.node.length, g.input.length, g.output.length, g.initializer.length)";
    let read = folder.path().join("read.js");
    std::fs::write(&read, script).ok()?;
    Command::new("node").arg(read).arg(file).output().ok()
}

fn checker(file: &Path) -> Option<Output> {
    python("import onnx")?;
    let script = "import onnx, sys
onnx.checker.check_model(sys.argv[1], full_check=True)
g = onnx.load(sys.argv[1], load_external_data=False).graph
print(len(g.node), len(g.input), len(g.output), len(g.initializer))";
    python_of(script, file)
}

fn python(script: &str) -> Option<Output> {
    python_of(script, Path::new("")).filter(|output| output.status.success())
}

/// What a Python (`LORAC_PYTHON`, else python3) says to a script with an argument.
pub fn python_of(script: &str, argument: &Path) -> Option<Output> {
    let python = std::env::var_os("LORAC_PYTHON").unwrap_or("python3".into());
    Command::new(python).args(["-c", script]).arg(argument).output().ok()
}
