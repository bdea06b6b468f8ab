//! Circles in a directed graph, by Tarjan's algorithm.

use std::collections::BTreeSet;

/// The strongly connected components of more than one node, each in ascending order.
///
/// Nodes are the numbers below `nodes`; an edge that names another number is ignored.
pub fn circles(nodes: usize, edges: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let mut search = Search::new(nodes, edges);
    for node in 0..nodes {
        if search.order[node].is_none() {
            search.visit(node);
        }
    }
    search.found.sort();
    search.found
}

/// One depth-first search.
struct Search {
    successors: Vec<Vec<usize>>,
    /// When each node was first seen.
    order: Vec<Option<usize>>,
    /// The earliest node on the stack that each node reaches.
    lowest: Vec<usize>,
    stack: Vec<usize>,
    on_stack: Vec<bool>,
    seen: usize,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn new(nodes: usize, edges: &BTreeSet<(usize, usize)>) -> Self {
        let mut successors = vec![Vec::new(); nodes];
        for &(from, to) in edges.iter().filter(|(from, to)| *from < nodes && *to < nodes) {
            successors[from].push(to);
        }
        Self {
            successors,
            order: vec![None; nodes],
            lowest: vec![0; nodes],
            stack: Vec::new(),
            on_stack: vec![false; nodes],
            seen: 0,
            found: Vec::new(),
        }
    }

    /// Recursion is as deep as the longest chain of files, a few hundred at most.
    fn visit(&mut self, node: usize) {
        let order = self.seen;
        self.seen += 1;
        self.order[node] = Some(order);
        self.lowest[node] = order;
        self.stack.push(node);
        self.on_stack[node] = true;
        for next in self.successors[node].clone() {
            match self.order[next] {
                None => {
                    self.visit(next);
                    self.lowest[node] = self.lowest[node].min(self.lowest[next]);
                }
                Some(seen) if self.on_stack[next] => {
                    self.lowest[node] = self.lowest[node].min(seen);
                }
                Some(_) => {}
            }
        }
        if self.lowest[node] == order {
            self.close(node);
        }
    }

    /// Takes the component whose first node is `first` off the stack.
    fn close(&mut self, first: usize) {
        let mut component = Vec::new();
        while let Some(node) = self.stack.pop() {
            self.on_stack[node] = false;
            component.push(node);
            if node == first {
                break;
            }
        }
        if component.len() > 1 {
            component.sort_unstable();
            self.found.push(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_has_no_circle() {
        assert!(circles(3, &BTreeSet::from([(0, 1), (1, 2), (0, 2)])).is_empty());
    }

    #[test]
    fn two_circles_joined_by_an_edge_stay_two() {
        let edges = BTreeSet::from([(0, 1), (1, 0), (1, 2), (2, 3), (3, 4), (4, 2)]);
        assert_eq!(circles(5, &edges), [vec![0, 1], vec![2, 3, 4]]);
    }

    #[test]
    fn a_node_that_points_at_itself_is_no_circle() {
        assert!(circles(1, &BTreeSet::from([(0, 0)])).is_empty());
    }
}
