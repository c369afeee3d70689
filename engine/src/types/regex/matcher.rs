//! Finds where a match ends, and what its groups are.
//!
//! `ends` gives every place where a node can end that begins at a place; answers are kept, so the work is bounded by
//! nodes times places. `dissect` then walks down the tree, as far as there are groups, with both ends fixed and gives
//! each part, from left to right, the longest or shortest share with which the rest still fits.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::program::{Found, Regex, captures};
use super::{Assert, Node};
use crate::types::error::TypeError;

/// Steps before a search is given up.
const BUDGET: u64 = 30_000_000;
/// Calls within calls before it is: a few hundred bytes of the stack each.
const MAX_DEPTH: usize = 20_000;
/// Known places that are looked at in the time of a step.
const PLACES_A_STEP: usize = 8;
/// Bytes of the longest character.
const LONGEST_CHARACTER: usize = 4;

type Ends = Rc<Vec<usize>>;

pub(super) struct Matcher<'a> {
    regex: &'a Regex,
    text: &'a str,
    known: HashMap<Key, Ends>,
    left: u64,
    depth: usize,
}

/// A node (its address), the index of its tail if that is meant, and the place.
type Key = (usize, usize, usize);

/// Does a node, given the choice, take as little as it can? `None`: it has no choice.
fn lazy(node: &Node) -> Option<bool> {
    match node {
        Node::Empty | Node::Set(_) | Node::Assert(_) | Node::Look { .. } => None,
        Node::Alt(_) => Some(false),
        Node::Group(_, inner) => lazy(inner),
        Node::Cat(list) => list.iter().find_map(lazy),
        Node::Repeat {
            node,
            min,
            max,
            greedy,
        } => {
            if Some(*min) == *max {
                lazy(node)
            } else {
                Some(!greedy)
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn key(node: &Node, tail: usize, at: usize) -> Key {
    (std::ptr::from_ref(node) as usize, tail, at)
}

/// The most bytes that the node can take; `None`: there is no bound.
fn most_bytes(node: &Node) -> Option<usize> {
    Some(match node {
        Node::Empty | Node::Assert(_) | Node::Look { .. } => 0,
        Node::Set(_) => LONGEST_CHARACTER,
        Node::Group(_, inner) => most_bytes(inner)?,
        Node::Cat(list) => list
            .iter()
            .try_fold(0_usize, |sum, n| Some(sum.saturating_add(most_bytes(n)?)))?,
        Node::Alt(list) => list
            .iter()
            .try_fold(0_usize, |most, n| Some(most.max(most_bytes(n)?)))?,
        Node::Repeat { node, max, .. } => match most_bytes(node)? {
            0 => 0,
            one => one.saturating_mul((*max)? as usize),
        },
    })
}

fn too_complex() -> TypeError {
    TypeError::new("54000", "regular expression is too complex for this string")
}

impl<'a> Matcher<'a> {
    pub fn new(regex: &'a Regex, text: &'a str) -> Matcher<'a> {
        Matcher {
            regex,
            text,
            known: HashMap::new(),
            left: BUDGET,
            depth: 0,
        }
    }

    pub fn first_from(mut self, from: usize) -> Result<Option<Found>, TypeError> {
        let regex = self.regex;
        let mut at = from;
        loop {
            let ends = self.ends(&regex.root, at)?;
            let end = if lazy(&regex.root) == Some(true) {
                ends.first()
            } else {
                ends.last()
            };
            if let Some(end) = end.copied() {
                let mut groups = vec![None; regex.groups];
                self.dissect(&regex.root, at, end, &mut groups)?;
                return Ok(Some(Found {
                    whole: (at, end),
                    groups,
                }));
            }
            match self.text[at..].chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return Ok(None),
            }
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), TypeError> {
        self.left = self.left.saturating_sub(steps as u64 + 1);
        if self.left == 0 {
            return Err(too_complex());
        }
        Ok(())
    }

    /// Many places that are known already still take their time.
    fn look_at(&mut self, ends: &[usize]) -> Result<(), TypeError> {
        match ends.len() / PLACES_A_STEP {
            0 => Ok(()),
            steps => self.spend(steps),
        }
    }

    /// A call within a call, which the stack bounds.
    fn deeper<T>(
        &mut self,
        call: impl FnOnce(&mut Self) -> Result<T, TypeError>,
    ) -> Result<T, TypeError> {
        if self.depth == MAX_DEPTH {
            return Err(too_complex());
        }
        self.depth += 1;
        let done = call(self);
        self.depth -= 1;
        done
    }

    fn holds(&self, assert: Assert, at: usize) -> bool {
        let before = self.text[..at].chars().next_back();
        let after = self.text[at..].chars().next();
        let (left, right) = (before.is_some_and(is_word), after.is_some_and(is_word));
        match assert {
            Assert::Start => at == 0,
            Assert::End => at == self.text.len(),
            Assert::LineStart => before.is_none_or(|c| c == '\n'),
            Assert::LineEnd => after.is_none_or(|c| c == '\n'),
            Assert::WordStart => !left && right,
            Assert::WordEnd => left && !right,
            Assert::WordEdge => left != right,
            Assert::NotWordEdge => left == right,
        }
    }

    /// Sorted places where `node` can end if it begins at `at`.
    fn ends(&mut self, node: &'a Node, at: usize) -> Result<Ends, TypeError> {
        let only = |yes: bool| if yes { vec![at] } else { Vec::new() };
        // What is found out in no time is not kept: that would be most of what is.
        let at_once = match node {
            Node::Empty => Some(only(true)),
            Node::Assert(a) => Some(only(self.holds(*a, at))),
            Node::Set(ranges) => Some(match self.text[at..].chars().next() {
                Some(c) if in_set(ranges, c) => vec![at + c.len_utf8()],
                _ => Vec::new(),
            }),
            _ => None,
        };
        if let Some(ends) = at_once {
            self.spend(0)?;
            return Ok(Rc::new(ends));
        }
        let id = key(node, 0, at);
        if let Some(known) = self.known.get(&id) {
            return Ok(Rc::clone(known));
        }
        self.spend(1)?;
        let ends = match node {
            Node::Empty | Node::Assert(_) | Node::Set(_) => unreachable!("answered at once"),
            Node::Group(_, inner) => return self.ends(inner, at),
            Node::Cat(list) => return self.tail_ends(node, list, 0, at),
            Node::Alt(list) => {
                let mut all = Vec::new();
                for n in list {
                    all.extend(self.ends(n, at)?.iter().copied());
                }
                sorted(all)
            }
            Node::Repeat {
                node: inner,
                min,
                max,
                ..
            } => self.repeat_ends(inner, *min, *max, at)?,
            Node::Look {
                ahead: true,
                negated,
                node: inner,
            } => {
                let found = !self.ends(inner, at)?.is_empty();
                only(found != *negated)
            }
            Node::Look {
                ahead: false,
                negated,
                node: inner,
            } => {
                let mut found = false;
                let text = self.text;
                let first = most_bytes(inner).map_or(0, |most| at.saturating_sub(most));
                for from in (first..=at).filter(|i| text.is_char_boundary(*i)) {
                    self.spend(0)?;
                    if self.ends(inner, from)?.contains(&at) {
                        found = true;
                        break;
                    }
                }
                only(found != *negated)
            }
        };
        self.spend(ends.len())?;
        let ends = Rc::new(ends);
        self.known.insert(id, Rc::clone(&ends));
        Ok(ends)
    }

    /// Ends of the members of a list from `index` on.
    fn tail_ends(
        &mut self,
        whole: &'a Node,
        list: &'a [Node],
        index: usize,
        at: usize,
    ) -> Result<Ends, TypeError> {
        let (mut index, mut at) = (index, at);
        loop {
            if index + 1 == list.len() {
                return self.ends(&list[index], at);
            }
            let id = key(whole, index + 1, at);
            if let Some(known) = self.known.get(&id) {
                return Ok(Rc::clone(known));
            }
            let middles = self.ends(&list[index], at)?;
            // A single way is followed here, so that a long list does not go deep.
            if let [only] = middles.as_slice() {
                (index, at) = (index + 1, *only);
                continue;
            }
            let mut all = Vec::new();
            for middle in middles.iter() {
                let rest = self.deeper(|m| m.tail_ends(whole, list, index + 1, *middle))?;
                all.extend(rest.iter().copied());
            }
            self.spend(all.len())?;
            let ends = Rc::new(sorted(all));
            self.known.insert(id, Rc::clone(&ends));
            return Ok(ends);
        }
    }

    fn repeat_ends(
        &mut self,
        inner: &'a Node,
        min: u32,
        max: Option<u32>,
        at: usize,
    ) -> Result<Vec<usize>, TypeError> {
        let mut reached = Vec::new();
        let mut frontier = vec![at];
        let mut round = 0;
        if min == 0 {
            reached.push(at);
        }
        let mut seen = HashSet::new();
        while !frontier.is_empty() && max.is_none_or(|m| round < m) {
            round += 1;
            let mut next = Vec::new();
            for place in frontier {
                let ends = self.ends(inner, place)?;
                self.look_at(&ends)?;
                for end in ends.iter() {
                    // Places reached before add nothing once the least count is there.
                    if round <= min || seen.insert(*end) {
                        next.push(*end);
                    }
                }
            }
            next = sorted(next);
            self.spend(next.len())?;
            if round >= min {
                reached.extend(next.iter().copied());
                seen.extend(next.iter().copied());
            }
            frontier = next;
        }
        Ok(sorted(reached))
    }

    fn dissect(
        &mut self,
        node: &'a Node,
        from: usize,
        to: usize,
        groups: &mut Vec<Option<(usize, usize)>>,
    ) -> Result<bool, TypeError> {
        // Where it begins and ends is all there is to know.
        if !captures(node) {
            return Ok(true);
        }
        match node {
            Node::Empty | Node::Set(_) | Node::Assert(_) | Node::Look { .. } => Ok(true),
            Node::Group(number, inner) => {
                let found = self.dissect(inner, from, to, groups)?;
                if let (Some(n), true) = (number, found) {
                    groups[n - 1] = Some((from, to));
                }
                Ok(found)
            }
            Node::Alt(list) => {
                for n in list {
                    if self.ends(n, from)?.binary_search(&to).is_ok()
                        && self.dissect(n, from, to, groups)?
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Node::Cat(list) => self.dissect_list(node, list, from, to, groups),
            Node::Repeat {
                node: inner,
                min,
                max,
                ..
            } => {
                if from == to && *min == 0 {
                    return Ok(true);
                }
                self.dissect_repeat(inner, (*min, *max), from, to, groups)
            }
        }
    }

    /// A share that is given is never taken back: what follows it fits.
    fn dissect_list(
        &mut self,
        whole: &'a Node,
        list: &'a [Node],
        from: usize,
        to: usize,
        groups: &mut Vec<Option<(usize, usize)>>,
    ) -> Result<bool, TypeError> {
        let Some((last, others)) = list.split_last() else {
            return Ok(true);
        };
        let mut from = from;
        for (index, node) in others.iter().enumerate() {
            let Some(middle) = self.share(whole, list, index, from, to)? else {
                return Ok(false);
            };
            if !self.dissect(node, from, middle, groups)? {
                return Ok(false);
            }
            from = middle;
        }
        self.dissect(last, from, to, groups)
    }

    /// Where the member `index` of a list ends that begins at `from` and goes to `to`.
    fn share(
        &mut self,
        whole: &'a Node,
        list: &'a [Node],
        index: usize,
        from: usize,
        to: usize,
    ) -> Result<Option<usize>, TypeError> {
        let node = &list[index];
        let ends = self.ends(node, from)?;
        // What follows fits, because something did.
        if let [only] = ends.as_slice() {
            return Ok(Some(*only));
        }
        for middle in preferred(node, &ends) {
            let rest = self.tail_ends(whole, list, index + 1, middle)?;
            if rest.binary_search(&to).is_ok() {
                return Ok(Some(middle));
            }
        }
        Ok(None)
    }

    /// As with a list, no round's share is taken back; so many rounds go no deeper than one.
    fn dissect_repeat(
        &mut self,
        inner: &'a Node,
        bounds: (u32, Option<u32>),
        from: usize,
        to: usize,
        groups: &mut Vec<Option<(usize, usize)>>,
    ) -> Result<bool, TypeError> {
        let (min, max) = bounds;
        let (mut done, mut from) = (0, from);
        // Known once any number of rounds may follow: then it is the same places for all of them.
        let mut leading: Option<HashSet<usize>> = None;
        while from != to || done < min {
            if max.is_some_and(|m| done >= m) {
                return Ok(false);
            }
            self.spend(1)?;
            let rest_min = min.saturating_sub(done + 1);
            let rest_max = max.map(|m| m - done - 1);
            if leading.is_none() && (rest_min, rest_max) == (0, None) {
                leading = Some(self.leading_to(inner, from, to)?);
            }
            let ends = self.ends(inner, from)?;
            let mut next = None;
            for middle in preferred(inner, &ends) {
                // An empty round makes no progress, so it counts only towards the least number.
                if middle > to || (middle == from && done >= min) {
                    continue;
                }
                let fits = match &leading {
                    Some(places) => places.contains(&middle),
                    None => self
                        .repeat_ends(inner, rest_min, rest_max, middle)?
                        .binary_search(&to)
                        .is_ok(),
                };
                if fits {
                    next = Some(middle);
                    break;
                }
            }
            let Some(middle) = next else {
                return Ok(false);
            };
            // Each round begins with its groups unset.
            forget(inner, groups);
            if !self.dissect(inner, from, middle, groups)? {
                return Ok(false);
            }
            (done, from) = (done + 1, middle);
        }
        Ok(true)
    }

    /// The places, of those that rounds of `inner` reach from `from`, from which such rounds reach `to`.
    fn leading_to(
        &mut self,
        inner: &'a Node,
        from: usize,
        to: usize,
    ) -> Result<HashSet<usize>, TypeError> {
        let mut reached = HashSet::from([from]);
        let mut waiting = vec![from];
        while let Some(place) = waiting.pop() {
            let ends = self.ends(inner, place)?;
            self.look_at(&ends)?;
            for end in ends.iter().filter(|end| **end <= to) {
                if reached.insert(*end) {
                    waiting.push(*end);
                }
            }
        }
        // No round goes back, so all that a place can reach is known before the place is looked at.
        let mut places: Vec<usize> = reached.into_iter().collect();
        places.sort_unstable_by_key(|place| std::cmp::Reverse(*place));
        let mut leading = HashSet::from([to]);
        for place in places {
            if self.ends(inner, place)?.iter().any(|e| leading.contains(e)) {
                leading.insert(place);
            }
        }
        Ok(leading)
    }
}

/// Places where a node can end, those first that it would rather have.
fn preferred<'e>(node: &Node, ends: &'e [usize]) -> Box<dyn Iterator<Item = usize> + 'e> {
    if lazy(node) == Some(true) {
        Box::new(ends.iter().copied())
    } else {
        Box::new(ends.iter().rev().copied())
    }
}

fn forget(node: &Node, groups: &mut [Option<(usize, usize)>]) {
    match node {
        Node::Group(number, inner) => {
            if let Some(n) = number {
                groups[n - 1] = None;
            }
            forget(inner, groups);
        }
        Node::Cat(list) | Node::Alt(list) => list.iter().for_each(|n| forget(n, groups)),
        Node::Repeat { node, .. } => forget(node, groups),
        _ => {}
    }
}

fn in_set(ranges: &[(char, char)], c: char) -> bool {
    ranges
        .binary_search_by(|(low, high)| {
            if c < *low {
                std::cmp::Ordering::Greater
            } else if c > *high {
                std::cmp::Ordering::Less
            } else {
                std::cmp::Ordering::Equal
            }
        })
        .is_ok()
}

fn sorted(mut places: Vec<usize>) -> Vec<usize> {
    places.sort_unstable();
    places.dedup();
    places
}
