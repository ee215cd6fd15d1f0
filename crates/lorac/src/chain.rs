//! Programs of the files of one model, each fed by those before it.

use lorac_ir::Tensor;
use lorac_onnx::ModelPart;
use lorac_runtime::{Port, Program, RuntimeError};
use std::collections::{BTreeSet, HashMap};

/// The programs of a model's parts as one program, whose inputs and outputs are called as in the whole.
pub(crate) struct Chain {
    links: Vec<Link>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

struct Link {
    program: Box<dyn Program>,
    /// Names of inputs and of outputs, by what they are called in the whole.
    inputs: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
}

impl Chain {
    /// The programs of parts, in the order of the parts.
    pub(crate) fn of(parts: Vec<(&ModelPart, Box<dyn Program>)>) -> Chain {
        let mut chain = Chain { links: Vec::new(), inputs: Vec::new(), outputs: Vec::new() };
        let mut known = BTreeSet::new();
        for (part, program) in parts {
            let named = |ports: &[Port]| -> Vec<(String, String)> {
                ports.iter().map(|port| (part.name(&port.name).to_string(), port.name.clone())).collect()
            };
            let (inputs, outputs) = (named(program.inputs()), named(program.outputs()));
            let new = program.inputs().iter().zip(&inputs).filter(|(_, (name, _))| known.insert(name.clone()));
            chain.inputs.extend(new.map(|(port, (name, _))| Port { name: name.clone(), fact: port.fact.clone() }));
            known.extend(outputs.iter().map(|(name, _)| name.clone()));
            // What the last gives is what the whole gives.
            let last = program.outputs().iter().zip(&outputs);
            chain.outputs =
                last.map(|(port, (name, _))| Port { name: name.clone(), fact: port.fact.clone() }).collect();
            chain.links.push(Link { program, inputs, outputs });
        }
        chain
    }
}

impl Program for Chain {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run(&mut self, feeds: &[(&str, &Tensor)], fetch: &[&str]) -> Result<Vec<Tensor>, RuntimeError> {
        let mut made: HashMap<String, Tensor> = HashMap::new();
        for at in 0..self.links.len() {
            let later: BTreeSet<&str> = self.links[at + 1..]
                .iter()
                .flat_map(|link| link.inputs.iter().map(|(name, _)| name.as_str()))
                .collect();
            let link = &self.links[at];
            let asked: Vec<(String, String)> = link
                .outputs
                .iter()
                .filter(|(name, _)| fetch.contains(&name.as_str()) || later.contains(name.as_str()))
                .cloned()
                .collect();
            let link = &mut self.links[at];
            let mut fed: Vec<(&str, &Tensor)> = Vec::new();
            for (name, own) in &link.inputs {
                let given =
                    made.get(name).or_else(|| feeds.iter().find(|(fed, _)| fed == name).map(|(_, tensor)| *tensor));
                fed.extend(given.map(|tensor| (own.as_str(), tensor)));
            }
            let own: Vec<&str> = asked.iter().map(|(_, own)| own.as_str()).collect();
            let got = link.program.run(&fed, &own)?;
            made.extend(asked.into_iter().map(|(name, _)| name).zip(got));
        }
        let unknown = |name: &str| RuntimeError::NoSuchOutput {
            name: name.into(),
            have: self.outputs.iter().map(|p| p.name.clone()).collect(),
        };
        fetch.iter().map(|name| made.get(*name).cloned().ok_or_else(|| unknown(name))).collect()
    }

    fn state(&self, input: &str) -> Result<Tensor, RuntimeError> {
        Err(RuntimeError::NoSuchState { name: input.into(), have: Vec::new() })
    }

    fn set_state(&mut self, input: &str, _: &Tensor) -> Result<(), RuntimeError> {
        Err(RuntimeError::NoSuchState { name: input.into(), have: Vec::new() })
    }
}
