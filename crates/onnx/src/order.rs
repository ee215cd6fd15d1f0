//! Orders things that wait for each other.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The numbers `0..needs.len()`, each after those it needs; among ready ones the smallest first.
///
/// # Errors
/// The smallest number that waits for itself.
pub(crate) fn sorted(needs: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut waiting: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut readers = vec![Vec::new(); needs.len()];
    for (i, list) in needs.iter().enumerate() {
        list.iter().for_each(|j| readers[*j].push(i));
    }
    let mut ready: BinaryHeap<_> = (0..needs.len()).filter(|i| waiting[*i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &j in &readers[i] {
            waiting[j] -= 1;
            if waiting[j] == 0 {
                ready.push(Reverse(j));
            }
        }
    }
    match waiting.iter().position(|n| *n > 0) {
        Some(stuck) => Err(stuck),
        None => Ok(order),
    }
}

#[cfg(test)]
mod tests {
    use super::sorted;

    #[test]
    fn keeps_a_valid_order_and_finds_cycles() {
        assert_eq!(sorted(&[vec![], vec![0], vec![]]), Ok(vec![0, 1, 2]));
        assert_eq!(sorted(&[vec![2, 2], vec![], vec![1]]), Ok(vec![1, 2, 0]));
        assert_eq!(sorted(&[vec![], vec![2], vec![1]]), Err(1));
        assert_eq!(sorted(&[vec![0]]), Err(0));
    }
}
