//! Times the compiler alone: `compile [LAYERS]`, a GPT-3-shaped model of 96 layers and of half as many to a LoRA
//! training step. Prints the median of 9 for both and their ratio.

use lorac_benches::gpt::{decoder, gpt3, step};
use lorac_benches::median;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layers: usize = std::env::args().nth(1).unwrap_or("96".into()).parse()?;
    let mut times = Vec::new();
    for layers in [layers / 2, layers] {
        let mut runs = Vec::new();
        let mut nodes = (0, 0);
        for _ in 0..9 {
            let model = decoder(gpt3(layers))?;
            let before = model.node_count();
            let start = Instant::now();
            let built = step(&model)?;
            runs.push(start.elapsed());
            nodes = (before, built.node_count());
        }
        let ms = median(&mut runs);
        println!("{layers:3} layers: {ms:.0} ms, {} nodes of the model become {}", nodes.0, nodes.1);
        times.push(ms);
    }
    println!("ratio: {:.2}", times[1] / times[0]);
    Ok(())
}
