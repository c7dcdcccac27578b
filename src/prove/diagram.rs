//! Decision diagrams: functions of bits, each shape of which is kept once, so
//! that two functions are equal where their numbers are (R. E. Bryant,
//! "Graph-Based Algorithms for Boolean Function Manipulation", 1986). Ordered,
//! reduced, with any number of terminals.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A function of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagram(u32);

/// Numbers below are terminals.
const TERMINALS: u32 = 1 << 24;

impl Diagram {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(1);

    /// The function that is `value` everywhere.
    pub const fn terminal(value: u32) -> Self {
        debug_assert!(value < TERMINALS);
        Self(value)
    }

    /// Its value, where it is the same everywhere.
    #[cfg(test)]
    const fn value(self) -> Option<u32> {
        if self.0 < TERMINALS { Some(self.0) } else { None }
    }

    const fn is_terminal(self) -> bool {
        self.0 < TERMINALS
    }
}

/// Decides by one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    bit: u32,
    zero: Diagram,
    one: Diagram,
}

/// One result of [`Diagrams::choose`] that is remembered.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    key: [Diagram; 3],
    result: Diagram,
}

/// As good as the default one here, and several times faster: the numbers come
/// from ourselves.
#[derive(Debug, Default, Clone, Copy)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((*byte).into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(number)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// A map by diagrams.
pub type Known<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Most results that are remembered, 16 bytes each.
const REMEMBERED: usize = 1 << 20;

/// No node is there.
const FREE: u32 = u32::MAX;

/// Every diagram, each once.
#[derive(Debug)]
pub struct Diagrams {
    nodes: Vec<Node>,
    /// Where the nodes are, by their content: open addressing.
    places: Vec<u32>,
    chosen: Vec<Chosen>,
    /// Results of [`Diagrams::change`], which are kept.
    unary: Known<(u32, Diagram), Diagram>,
    /// What [`Diagrams::new_terminals`] has told of.
    seen: HashSet<(u32, Diagram), BuildHasherDefault<Mix>>,
}

/// Kinds of [`Diagrams::change`] that are this module's own.
const HIGHEST: u32 = u32::MAX;
const AT_ZERO: u32 = u32::MAX - 1;

/// A value of each bit that matters on the way to a terminal.
pub type Path = Vec<(u32, bool)>;

impl Default for Diagrams {
    fn default() -> Self {
        let nothing = Chosen { key: [Diagram(FREE); 3], result: Diagram::NEVER };
        Self {
            nodes: Vec::new(),
            places: vec![FREE; 1 << 12],
            chosen: vec![nothing; 1 << 14],
            unary: Known::default(),
            seen: HashSet::default(),
        }
    }
}

fn spread(a: u32, b: u32, c: u32) -> usize {
    let product = |number: u32, factor: u64| u64::from(number).wrapping_mul(factor);
    let mixed = product(a, 0x9E37_79B9_7F4A_7C15)
        ^ product(b, 0xC2B2_AE3D_27D4_EB4F)
        ^ product(c, 0x1656_67B1_9E37_79F9);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    usize::try_from(mixed >> 20).unwrap_or_default()
}

impl Diagrams {
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The first bit that a function looks at; after all others where it is the
    /// same everywhere.
    fn bit(&self, diagram: Diagram) -> u32 {
        self.node(diagram).map_or(u32::MAX, |node| node.bit)
    }

    fn node(&self, diagram: Diagram) -> Option<Node> {
        let index = diagram.0.checked_sub(TERMINALS)?;
        self.nodes.get(usize::try_from(index).ok()?).copied()
    }

    /// What is left of a function where `bit` is 0, and where it is 1.
    fn halves(&self, diagram: Diagram, bit: u32) -> (Diagram, Diagram) {
        match self.node(diagram) {
            Some(node) if node.bit == bit => (node.zero, node.one),
            _ => (diagram, diagram),
        }
    }

    /// `one` where the bit is 1, `zero` where it isn't. Both look at later bits
    /// only.
    pub fn decide(&mut self, bit: u32, zero: Diagram, one: Diagram) -> Diagram {
        if zero == one {
            return zero;
        }
        if self.nodes.len() * 2 > self.places.len() {
            self.grow();
        }
        let node = Node { bit, zero, one };
        let mask = self.places.len() - 1;
        let mut place = spread(bit, zero.0, one.0) & mask;
        while let Some(&index) = self.places.get(place)
            && index != FREE
        {
            if usize::try_from(index).ok().and_then(|index| self.nodes.get(index)) == Some(&node) {
                return Diagram(index + TERMINALS);
            }
            place = (place + 1) & mask;
        }
        // 2^32 - 2^24 nodes are 50 GB: the memory ends before the numbers do.
        let index = u32::try_from(self.nodes.len()).unwrap_or(FREE);
        self.nodes.push(node);
        if let Some(free) = self.places.get_mut(place) {
            *free = index;
        }
        Diagram(index.saturating_add(TERMINALS))
    }

    fn grow(&mut self) {
        let size = self.places.len() * 2;
        // What is remembered grows with what there is.
        let nothing = Chosen { key: [Diagram(FREE); 3], result: Diagram::NEVER };
        self.chosen = vec![nothing; size.min(REMEMBERED)];
        self.places = vec![FREE; size];
        for (index, node) in (0..).zip(&self.nodes) {
            let mut place = spread(node.bit, node.zero.0, node.one.0) & (size - 1);
            while self.places.get(place).is_some_and(|other| *other != FREE) {
                place = (place + 1) & (size - 1);
            }
            if let Some(free) = self.places.get_mut(place) {
                *free = index;
            }
        }
    }

    /// `then` where `condition` holds, `otherwise` elsewhere.
    pub fn choose(&mut self, condition: Diagram, then: Diagram, otherwise: Diagram) -> Diagram {
        if condition == Diagram::ALWAYS || then == otherwise {
            return then;
        }
        if condition == Diagram::NEVER {
            return otherwise;
        }
        let then = if then == condition { Diagram::ALWAYS } else { then };
        let otherwise = if otherwise == condition { Diagram::NEVER } else { otherwise };
        if then == Diagram::ALWAYS && otherwise == Diagram::NEVER {
            return condition;
        }
        let key = [condition, then, otherwise];
        let slot = spread(condition.0, then.0, otherwise.0) & (self.chosen.len() - 1);
        if let Some(known) = self.chosen.get(slot).filter(|known| known.key == key) {
            return known.result;
        }
        let bit = self.bit(condition).min(self.bit(then)).min(self.bit(otherwise));
        let [c, t, o] = key.map(|diagram| self.halves(diagram, bit));
        let zero = self.choose(c.0, t.0, o.0);
        let one = self.choose(c.1, t.1, o.1);
        let result = self.decide(bit, zero, one);
        if let Some(place) = self.chosen.get_mut(slot) {
            *place = Chosen { key, result };
        }
        result
    }

    /// Where both hold.
    pub fn and(&mut self, a: Diagram, b: Diagram) -> Diagram {
        if a < b { self.choose(a, b, Diagram::NEVER) } else { self.choose(b, a, Diagram::NEVER) }
    }

    /// Where either holds.
    pub fn or(&mut self, a: Diagram, b: Diagram) -> Diagram {
        if a < b { self.choose(a, Diagram::ALWAYS, b) } else { self.choose(b, Diagram::ALWAYS, a) }
    }

    /// Where it doesn't hold.
    pub fn not(&mut self, a: Diagram) -> Diagram {
        self.choose(a, Diagram::NEVER, Diagram::ALWAYS)
    }

    /// Where `a` holds and `b` doesn't.
    pub fn minus(&mut self, a: Diagram, b: Diagram) -> Diagram {
        self.choose(b, Diagram::NEVER, a)
    }

    /// Puts other terminals in the places of those that are there.
    pub fn rename(&mut self, diagram: Diagram, name: &impl Fn(u32) -> Diagram) -> Diagram {
        self.rename_in(diagram, name, &mut Known::default())
    }

    fn rename_in(
        &mut self,
        diagram: Diagram,
        name: &impl Fn(u32) -> Diagram,
        known: &mut Known<Diagram, Diagram>,
    ) -> Diagram {
        let Some(node) = self.node(diagram) else { return name(diagram.0) };
        if let Some(result) = known.get(&diagram) {
            return *result;
        }
        let zero = self.rename_in(node.zero, name, known);
        let one = self.rename_in(node.one, name, known);
        let result = self.decide(node.bit, zero, one);
        known.insert(diagram, result);
        result
    }

    /// Puts other terminals in the places of those that are there, where these
    /// are the same at each call with this `kind`.
    pub fn change(&mut self, kind: u32, diagram: Diagram, name: &impl Fn(u32) -> Diagram) -> Diagram {
        let Some(node) = self.node(diagram) else { return name(diagram.0) };
        if let Some(result) = self.unary.get(&(kind, diagram)) {
            return *result;
        }
        let zero = self.change(kind, node.zero, name);
        let one = self.change(kind, node.one, name);
        let result = self.decide(node.bit, zero, one);
        self.unary.insert((kind, diagram), result);
        result
    }

    /// The highest terminal that is reached by any value of the bits from `first`
    /// on; no others follow them. Always the same `first`.
    pub fn highest(&mut self, diagram: Diagram, first: u32) -> Diagram {
        self.without_last(HIGHEST, diagram, first, &|_, zero, one| zero.max(one))
    }

    /// What is left where the bits from `first` on are 0; no others follow them.
    /// Always the same `first`.
    pub fn at_zero(&mut self, diagram: Diagram, first: u32) -> Diagram {
        self.without_last(AT_ZERO, diagram, first, &|_, zero, _| zero)
    }

    fn without_last(
        &mut self,
        kind: u32,
        diagram: Diagram,
        first: u32,
        pick: &impl Fn(&Self, Diagram, Diagram) -> Diagram,
    ) -> Diagram {
        let Some(node) = self.node(diagram) else { return diagram };
        if let Some(result) = self.unary.get(&(kind, diagram)) {
            return *result;
        }
        let zero = self.without_last(kind, node.zero, first, pick);
        let one = self.without_last(kind, node.one, first, pick);
        let result = if node.bit >= first { pick(self, zero, one) } else { self.decide(node.bit, zero, one) };
        self.unary.insert((kind, diagram), result);
        result
    }

    /// The terminals of a function that weren't told of before with this `kind`.
    pub fn new_terminals(&mut self, kind: u32, diagram: Diagram) -> Vec<u32> {
        let (mut found, mut open) = (Vec::new(), vec![diagram]);
        while let Some(next) = open.pop() {
            if !self.seen.insert((kind, next)) {
                continue;
            }
            match self.node(next) {
                None => found.push(next.0),
                Some(node) => open.extend([node.zero, node.one]),
            }
        }
        found
    }

    /// Has [`Self::new_terminals`] tell of all again.
    pub fn tell_again(&mut self) {
        self.seen.clear();
    }

    /// Where it holds for some value of the bits in `bits`. What it is of, is one
    /// that holds or doesn't.
    pub fn some(&mut self, diagram: Diagram, bits: std::ops::Range<u32>) -> Diagram {
        self.some_in(diagram, &bits, &mut Known::default())
    }

    fn some_in(
        &mut self,
        diagram: Diagram,
        bits: &std::ops::Range<u32>,
        known: &mut Known<Diagram, Diagram>,
    ) -> Diagram {
        let Some(node) = self.node(diagram).filter(|node| node.bit < bits.end) else { return diagram };
        if let Some(result) = known.get(&diagram) {
            return *result;
        }
        let zero = self.some_in(node.zero, bits, known);
        let one = self.some_in(node.one, bits, known);
        let result =
            if bits.contains(&node.bit) { self.or(zero, one) } else { self.decide(node.bit, zero, one) };
        known.insert(diagram, result);
        result
    }

    /// What is left of a function where the `count` bits from `first` on, the
    /// highest first, are those of `value`.
    pub fn given(&mut self, diagram: Diagram, (first, count): (u32, u32), value: u128) -> Diagram {
        self.given_in(diagram, (first, count), value, &mut Known::default())
    }

    fn given_in(
        &mut self,
        diagram: Diagram,
        (first, count): (u32, u32),
        value: u128,
        known: &mut Known<Diagram, Diagram>,
    ) -> Diagram {
        let Some(node) = self.node(diagram).filter(|node| node.bit < first + count) else { return diagram };
        if let Some(result) = known.get(&diagram) {
            return *result;
        }
        let result = if node.bit >= first {
            let one = value >> (first + count - 1 - node.bit) & 1 == 1;
            self.given_in(if one { node.one } else { node.zero }, (first, count), value, known)
        } else {
            let zero = self.given_in(node.zero, (first, count), value, known);
            let one = self.given_in(node.one, (first, count), value, known);
            self.decide(node.bit, zero, one)
        };
        known.insert(diagram, result);
        result
    }

    /// The function that looks at other bits in the places of those that it looks
    /// at.
    pub fn moved(&mut self, diagram: Diagram, to: &impl Fn(u32) -> u32) -> Diagram {
        self.moved_in(diagram, to, &mut Known::default())
    }

    fn moved_in(
        &mut self,
        diagram: Diagram,
        to: &impl Fn(u32) -> u32,
        known: &mut Known<Diagram, Diagram>,
    ) -> Diagram {
        let Some(node) = self.node(diagram) else { return diagram };
        if let Some(result) = known.get(&diagram) {
            return *result;
        }
        let zero = self.moved_in(node.zero, to, known);
        let one = self.moved_in(node.one, to, known);
        let bit = self.decide(to(node.bit), Diagram::NEVER, Diagram::ALWAYS);
        let result = self.choose(bit, one, zero);
        known.insert(diagram, result);
        result
    }

    /// Some way to where it holds; none where it never does.
    pub fn example(&self, diagram: Diagram) -> Option<Path> {
        let mut path = Path::new();
        let mut next = diagram;
        while let Some(node) = self.node(next) {
            let value = node.zero == Diagram::NEVER;
            path.push((node.bit, value));
            next = if value { node.one } else { node.zero };
        }
        (next != Diagram::NEVER).then_some(path)
    }

    /// What is left of a function that looks at no bit before `first`, for each
    /// value of the `count` bits from there; neighbours of which the same is left
    /// are one range.
    pub fn parts(&self, diagram: Diagram, first: u32, count: u32) -> Vec<((u128, u128), Diagram)> {
        let mut found: Vec<((u128, u128), Diagram)> = Vec::new();
        self.parts_in(diagram, (first, count), (0, 0), &mut found);
        found
    }

    fn parts_in(
        &self,
        diagram: Diagram,
        (first, count): (u32, u32),
        (done, prefix): (u32, u128),
        found: &mut Vec<((u128, u128), Diagram)>,
    ) {
        let rest = count - done;
        let bit = self.bit(diagram);
        if rest == 0 || bit >= first + count {
            let last = prefix | if rest >= 128 { u128::MAX } else { (1 << rest) - 1 };
            match found.last_mut() {
                Some(((_, end), same)) if *same == diagram && end.checked_add(1) == Some(prefix) => {
                    *end = last
                }
                _ => found.push(((prefix, last), diagram)),
            }
            return;
        }
        let (zero, one) = self.halves(diagram, first + done);
        self.parts_in(zero, (first, count), (done + 1, prefix), found);
        self.parts_in(one, (first, count), (done + 1, prefix | 1 << (rest - 1)), found);
    }

    /// The terminals that a function has anywhere, in order.
    pub fn terminals(&self, diagram: Diagram) -> Vec<u32> {
        let mut seen: HashSet<Diagram, BuildHasherDefault<Mix>> = HashSet::default();
        let mut found = Vec::new();
        let mut open = vec![diagram];
        while let Some(next) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            match self.node(next) {
                None => found.push(next.0),
                Some(node) => open.extend([node.zero, node.one]),
            }
        }
        found.sort_unstable();
        found
    }

    /// Every pair of terminals that the two have in one place, each with a way
    /// there; only where the bits from `zero` on are 0.
    pub fn pairs(&self, a: Diagram, b: Diagram, zero: u32) -> BTreeMap<(u32, u32), Path> {
        let (seen, path, found) = (HashSet::default(), Vec::new(), BTreeMap::new());
        let mut walk = Pairs { diagrams: self, zero, seen, path, found };
        walk.go(a, b);
        walk.found
    }
}

struct Pairs<'d> {
    diagrams: &'d Diagrams,
    zero: u32,
    seen: HashSet<(Diagram, Diagram), BuildHasherDefault<Mix>>,
    path: Path,
    found: BTreeMap<(u32, u32), Path>,
}

impl Pairs<'_> {
    fn go(&mut self, a: Diagram, b: Diagram) {
        if a.is_terminal() && b.is_terminal() {
            self.found.entry((a.0, b.0)).or_insert_with(|| self.path.clone());
            return;
        }
        if !self.seen.insert((a, b)) {
            return;
        }
        let bit = self.diagrams.bit(a).min(self.diagrams.bit(b));
        let (a, b) = (self.diagrams.halves(a, bit), self.diagrams.halves(b, bit));
        for (value, a, b) in [(false, a.0, b.0), (true, a.1, b.1)] {
            if value && bit >= self.zero {
                continue;
            }
            self.path.push((bit, value));
            self.go(a, b);
            self.path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BITS: u32 = 6;

    /// A function as a tree of choices.
    #[derive(Debug, Clone)]
    enum Tree {
        Terminal(u32),
        Bit(u32),
        Choose(Box<[Tree; 3]>),
    }

    fn trees() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![(0u32..2).prop_map(Tree::Terminal), (0..BITS).prop_map(Tree::Bit)];
        leaf.prop_recursive(5, 40, 3, |inner| {
            [inner.clone(), inner.clone(), inner].prop_map(|three| Tree::Choose(Box::new(three)))
        })
    }

    fn diagram(diagrams: &mut Diagrams, tree: &Tree) -> Diagram {
        match tree {
            Tree::Terminal(value) => Diagram::terminal(*value),
            Tree::Bit(bit) => diagrams.decide(*bit, Diagram::NEVER, Diagram::ALWAYS),
            Tree::Choose(three) => {
                let [c, t, o] = three.each_ref().map(|tree| diagram(diagrams, tree));
                diagrams.choose(c, t, o)
            }
        }
    }

    /// The truth table's line.
    fn value(tree: &Tree, line: u32) -> u32 {
        match tree {
            Tree::Terminal(value) => *value,
            Tree::Bit(bit) => line >> bit & 1,
            Tree::Choose(three) => {
                let [c, t, o] = three.each_ref().map(|tree| value(tree, line));
                if c == 1 { t } else { o }
            }
        }
    }

    fn look_up(diagrams: &Diagrams, mut diagram: Diagram, line: u32) -> u32 {
        while let Some(node) = diagrams.node(diagram) {
            diagram = if line >> node.bit & 1 == 1 { node.one } else { node.zero };
        }
        diagram.value().unwrap()
    }

    proptest! {
        #[test]
        fn a_diagram_is_its_truth_table(a in trees(), b in trees()) {
            let mut diagrams = Diagrams::default();
            let (da, db) = (diagram(&mut diagrams, &a), diagram(&mut diagrams, &b));
            let table = |tree| (0..1 << BITS).map(|line| value(tree, line)).collect::<Vec<_>>();
            let seen = |d| (0..1 << BITS).map(|line| look_up(&diagrams, d, line)).collect::<Vec<_>>();
            prop_assert_eq!(table(&a), seen(da));
            prop_assert_eq!(table(&b), seen(db));
            prop_assert_eq!(table(&a) == table(&b), da == db, "one diagram for one function");
            let (and, or, not, minus) =
                (diagrams.and(da, db), diagrams.or(da, db), diagrams.not(da), diagrams.minus(da, db));
            for line in 0..1 << BITS {
                let (x, y) = (value(&a, line) == 1, value(&b, line) == 1);
                let is = |d| look_up(&diagrams, d, line) == 1;
                prop_assert_eq!((is(and), is(or), is(not), is(minus)), (x && y, x || y, !x, x && !y));
            }
        }

        #[test]
        fn pairs_are_those_of_the_truth_tables_with_a_way_there(a in trees(), b in trees()) {
            let mut diagrams = Diagrams::default();
            let (da, db) = (diagram(&mut diagrams, &a), diagram(&mut diagrams, &b));
            let shifted = diagrams.rename(db, &|value| Diagram::terminal(value + 7));
            let found = diagrams.pairs(da, shifted, u32::MAX);
            let expected: std::collections::BTreeSet<_> =
                (0..1 << BITS).map(|line| (value(&a, line), value(&b, line) + 7)).collect();
            prop_assert_eq!(found.keys().copied().collect::<std::collections::BTreeSet<_>>(), expected);
            for (pair, path) in found {
                let line = path.iter().fold(0, |line, (bit, one)| line | u32::from(*one) << bit);
                prop_assert_eq!((value(&a, line), value(&b, line) + 7), pair);
            }
            for bits in [0..2, 2..5, 0..BITS] {
                let some = diagrams.some(da, bits.clone());
                for line in 0..1u32 << BITS {
                    let others = (0..1u32 << BITS).filter(|other| {
                        (0..BITS).all(|bit| bits.contains(&bit) || (other ^ line) >> bit & 1 == 0)
                    });
                    let expected = others.into_iter().any(|other| value(&a, other) == 1);
                    prop_assert_eq!(look_up(&diagrams, some, line) == 1, expected);
                }
            }
            for value in 0..4 {
                let given = diagrams.given(da, (2, 2), value.into());
                for line in 0..1u32 << BITS {
                    let there = line & !0b1100 | (value >> 1 & 1) << 2 | (value & 1) << 3;
                    prop_assert_eq!(look_up(&diagrams, given, line), super::tests::value(&a, there));
                }
            }
            // Each bit to the other end.
            let moved = diagrams.moved(da, &|bit| BITS - 1 - bit);
            for line in 0..1u32 << BITS {
                let turned = (0..BITS).fold(0, |sum, bit| sum | (line >> bit & 1) << (BITS - 1 - bit));
                prop_assert_eq!(look_up(&diagrams, moved, line), value(&a, turned));
            }
            match diagrams.example(da) {
                None => prop_assert_eq!(da, Diagram::NEVER),
                Some(path) => {
                    let line = path.iter().fold(0, |line, (bit, one)| line | u32::from(*one) << bit);
                    prop_assert_eq!(value(&a, line), 1);
                }
            }
            let parts = diagrams.parts(da, 0, 3);
            for line in 0..1u32 << BITS {
                // The first bit is the highest.
                let number = u128::from((line & 1) << 2 | (line & 2) | (line >> 2 & 1));
                let mut these = parts.iter().filter(|((first, last), _)| (*first..=*last).contains(&number));
                let (_, left) = these.next().unwrap();
                prop_assert_eq!(look_up(&diagrams, *left, line), value(&a, line));
                prop_assert!(these.next().is_none());
            }
            let mut terminals: Vec<_> = (0..1 << BITS).map(|line| value(&a, line)).collect();
            terminals.sort_unstable();
            terminals.dedup();
            prop_assert_eq!(diagrams.terminals(da), terminals);
        }
    }
}
