//! Which operator or function a call means. Manual, 10.2 and 10.3; `func_select_candidate` in parse_func.c.
//!
//! Pure: types in, a choice out.

use crate::ids::Oid;
use crate::types::function::{CastContext, CastMethod};
use crate::types::{casts, oids, registry};

/// `TYPCATEGORY_STRING`
pub const STRING: u8 = b'S';

pub fn category(ty: Oid) -> u8 {
    registry::by_oid(ty).map_or(b'X', |t| t.category)
}

pub fn is_preferred(ty: Oid) -> bool {
    registry::by_oid(ty).is_some_and(|t| t.preferred)
}

/// Element type of a true array type.
pub fn array_element(ty: Oid) -> Option<Oid> {
    let t = registry::by_oid(ty)?;
    // `record[]` is one although its category is that of the pseudo-types.
    let is_array = t.category == b'A' || ty == oids::RECORD_ARRAY;
    (is_array && t.element != Oid::INVALID).then_some(t.element)
}

pub fn array_of(element: Oid) -> Option<Oid> {
    let t = registry::by_oid(element)?;
    (t.array != Oid::INVALID).then_some(t.array)
}

pub fn is_polymorphic(ty: Oid) -> bool {
    matches!(
        ty,
        oids::ANYELEMENT
            | oids::ANYARRAY
            | oids::ANYNONARRAY
            | oids::ANYENUM
            | oids::ANYRANGE
            | oids::ANYCOMPATIBLE
            | oids::ANYCOMPATIBLEARRAY
            | oids::ANYCOMPATIBLENONARRAY
            | oids::ANYCOMPATIBLERANGE
    )
}

/// How a value of one type becomes another (`find_coercion_pathway`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pathway {
    Relabel,
    Function(Oid),
    /// Through the text form.
    Text,
    /// Element by element.
    Array,
}

pub fn pathway(source: Oid, target: Oid, context: CastContext) -> Option<Pathway> {
    if source == target {
        return Some(Pathway::Relabel);
    }
    if let Some(cast) = casts::find(source, target) {
        if rank(context) < rank(cast.context) {
            return None;
        }
        return Some(match cast.method {
            CastMethod::Function(oid) => Pathway::Function(oid),
            CastMethod::Binary => Pathway::Relabel,
            CastMethod::InOut => Pathway::Text,
        });
    }
    // The vector types would capture what is meant for real arrays.
    let is_vector = matches!(target, oids::OIDVECTOR | oids::INT2VECTOR);
    if let (Some(from), Some(to)) = (array_element(source), array_element(target))
        && !is_vector
        && pathway(from, to, context).is_some()
    {
        // A vector type is an array of its elements.
        return Some(match from == to {
            true => Pathway::Relabel,
            false => Pathway::Array,
        });
    }
    // Assignment may write anything as a string; an explicit cast may also read anything from one.
    let is_pseudo = |ty| registry::by_oid(ty).is_none_or(|t| t.kind == b'p');
    if rank(context) >= rank(CastContext::Assignment)
        && category(target) == STRING
        && (!is_pseudo(source) || source == oids::RECORD)
    {
        return Some(Pathway::Text);
    }
    if context == CastContext::Explicit && category(source) == STRING && !is_pseudo(target) {
        return Some(Pathway::Text);
    }
    None
}

fn rank(context: CastContext) -> u8 {
    match context {
        CastContext::Implicit => 0,
        CastContext::Assignment => 1,
        CastContext::Explicit => 2,
    }
}

pub fn can_coerce(source: Oid, target: Oid, context: CastContext) -> bool {
    source == target
        || target == oids::ANY
        || is_polymorphic(target)
        || source == oids::UNKNOWN
        || pathway(source, target, context).is_some()
}

/// All inputs, by implicit casts, and polymorphic parameters among themselves.
pub fn can_coerce_all(inputs: &[Oid], targets: &[Oid]) -> bool {
    inputs
        .iter()
        .zip(targets)
        .all(|(from, to)| can_coerce(*from, *to, CastContext::Implicit))
        && (!targets.iter().any(|t| is_polymorphic(*t))
            || polymorphic_types(inputs, targets).is_ok())
}

/// What a set of candidates comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    One(usize),
    None,
    Ambiguous,
}

/// Picks one of `candidates` (parameter types) for arguments of the types `inputs`.
pub fn choose(inputs: &[Oid], candidates: &[&[Oid]]) -> Choice {
    let fitting: Vec<usize> = (0..candidates.len())
        .filter(|i| candidates[*i].len() == inputs.len() && can_coerce_all(inputs, candidates[*i]))
        .collect();
    match fitting.as_slice() {
        [] => Choice::None,
        [one] => Choice::One(*one),
        _ => select(inputs, candidates, fitting).map_or(Choice::Ambiguous, Choice::One),
    }
}

/// Keeps those with the highest score.
fn keep_best(live: &[usize], score: impl Fn(usize) -> usize) -> Vec<usize> {
    let best = live.iter().map(|c| score(*c)).max().unwrap_or(0);
    live.iter().copied().filter(|c| score(*c) == best).collect()
}

fn select(inputs: &[Oid], candidates: &[&[Oid]], live: Vec<usize>) -> Option<usize> {
    let known: Vec<usize> = (0..inputs.len())
        .filter(|i| inputs[*i] != oids::UNKNOWN)
        .collect();
    let unknown: Vec<usize> = (0..inputs.len())
        .filter(|i| inputs[*i] == oids::UNKNOWN)
        .collect();
    let live = keep_best(&live, |c| {
        known
            .iter()
            .filter(|i| candidates[c][**i] == inputs[**i])
            .count()
    });
    if let [one] = live.as_slice() {
        return Some(*one);
    }
    let live = keep_best(&live, |c| {
        known
            .iter()
            .filter(|i| {
                let ty = candidates[c][**i];
                ty == inputs[**i] || (category(ty) == category(inputs[**i]) && is_preferred(ty))
            })
            .count()
    });
    if let [one] = live.as_slice() {
        return Some(*one);
    }
    if unknown.is_empty() {
        return None;
    }
    let live = by_unknown_categories(candidates, live, &unknown);
    if let [one] = live.as_slice() {
        return Some(*one);
    }
    // If all known arguments have one type, the unknown ones are taken to have it too.
    let (first, rest) = known.split_first()?;
    let ty = inputs[*first];
    if rest.iter().any(|i| inputs[*i] != ty) {
        return None;
    }
    let same = vec![ty; inputs.len()];
    let mut fitting = live
        .iter()
        .filter(|c| can_coerce_all(&same, candidates[**c]));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Some(*one),
        _ => None,
    }
}

/// Step 4.e: each unknown argument is taken for a string if some candidate takes one there, else for the category
/// on which all candidates agree.
fn by_unknown_categories(candidates: &[&[Oid]], live: Vec<usize>, unknown: &[usize]) -> Vec<usize> {
    let mut slots: Vec<(usize, u8, bool)> = Vec::with_capacity(unknown.len());
    for &i in unknown {
        let mut chosen: Option<(u8, bool)> = None;
        let mut conflict = false;
        for &c in &live {
            let ty = candidates[c][i];
            let (cat, preferred) = (category(ty), is_preferred(ty));
            chosen = Some(match chosen {
                None => (cat, preferred),
                Some((old, had)) if old == cat => (old, had || preferred),
                Some(_) if cat == STRING => (STRING, preferred),
                Some(old) => {
                    conflict = true;
                    old
                }
            });
        }
        match chosen {
            Some((cat, preferred)) if !conflict || cat == STRING => {
                slots.push((i, cat, preferred));
            }
            _ => return live,
        }
    }
    let kept: Vec<usize> = live
        .iter()
        .copied()
        .filter(|c| {
            slots.iter().all(|(i, cat, preferred)| {
                let ty = candidates[*c][*i];
                category(ty) == *cat && (!preferred || is_preferred(ty))
            })
        })
        .collect();
    if kept.is_empty() { live } else { kept }
}

/// What the polymorphic parameters of a call stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Polymorphic {
    pub element: Option<Oid>,
    /// What was passed as `anyarray`: an array of `element`, or one of the vector types, which are taken as they are.
    array: Option<Oid>,
    pub compatible: Option<Oid>,
}

/// Why they stand for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolymorphicFault {
    NotAlike(&'static str, Oid, Oid),
    NotAnArray(Oid),
    IsAnArray(Oid),
    NotAnEnum(Oid),
}

/// Manual, 38.2.5; `enforce_generic_type_consistency`. Unknown arguments follow the others.
pub fn polymorphic_types(
    inputs: &[Oid],
    declared: &[Oid],
) -> Result<Polymorphic, PolymorphicFault> {
    let mut element: Option<Oid> = None;
    let mut array: Option<Oid> = None;
    let mut compatible: Vec<Oid> = Vec::new();
    let mut any_unknown = false;
    for (input, declared) in inputs.iter().zip(declared) {
        if is_polymorphic(*declared) && *input == oids::UNKNOWN {
            any_unknown = true;
            continue;
        }
        let is_array_slot = matches!(*declared, oids::ANYARRAY | oids::ANYCOMPATIBLEARRAY);
        let ty = if is_array_slot {
            match array_element(*input) {
                Some(e) => e,
                None if *input == oids::ANYARRAY => oids::ANYELEMENT,
                None => return Err(PolymorphicFault::NotAnArray(*input)),
            }
        } else {
            *input
        };
        if *declared == oids::ANYARRAY {
            match array.replace(*input) {
                Some(old) if old != *input => {
                    return Err(PolymorphicFault::NotAlike("anyarray", old, *input));
                }
                _ => {}
            }
        }
        match *declared {
            oids::ANYELEMENT | oids::ANYNONARRAY | oids::ANYENUM | oids::ANYARRAY => {
                if *declared == oids::ANYNONARRAY && array_element(ty).is_some() {
                    return Err(PolymorphicFault::IsAnArray(ty));
                }
                if *declared == oids::ANYENUM && registry::by_oid(ty).is_none_or(|t| t.kind != b'e')
                {
                    return Err(PolymorphicFault::NotAnEnum(ty));
                }
                match element {
                    None => element = Some(ty),
                    Some(old) if old == ty => {}
                    Some(old) => {
                        return Err(PolymorphicFault::NotAlike("anyelement", old, ty));
                    }
                }
            }
            oids::ANYCOMPATIBLE | oids::ANYCOMPATIBLENONARRAY | oids::ANYCOMPATIBLEARRAY => {
                compatible.push(ty);
            }
            _ => {}
        }
    }
    let compatible = if compatible.is_empty() {
        None
    } else {
        match common_type(&compatible) {
            Ok(ty) => Some(ty),
            Err((a, b)) => return Err(PolymorphicFault::NotAlike("anycompatible", a, b)),
        }
    };
    let wants = |kinds: &[Oid]| declared.iter().any(|d| kinds.contains(d));
    let wants_element = wants(&[
        oids::ANYELEMENT,
        oids::ANYNONARRAY,
        oids::ANYENUM,
        oids::ANYARRAY,
    ]);
    let wants_compatible = wants(&[
        oids::ANYCOMPATIBLE,
        oids::ANYCOMPATIBLENONARRAY,
        oids::ANYCOMPATIBLEARRAY,
    ]);
    // Nothing but unknown literals: PostgreSQL takes them for text only in the compatible family.
    let compatible = if wants_compatible && compatible.is_none() && any_unknown {
        Some(oids::TEXT)
    } else {
        compatible
    };
    Ok(Polymorphic {
        element: if wants_element { element } else { None },
        array,
        compatible,
    })
}

impl Polymorphic {
    /// What `declared` is in this call; `None` if nothing tells.
    pub fn actual(&self, declared: Oid) -> Option<Oid> {
        match declared {
            oids::ANYELEMENT | oids::ANYNONARRAY | oids::ANYENUM => self.element,
            oids::ANYARRAY => self.array.or_else(|| self.element.and_then(array_of)),
            oids::ANYCOMPATIBLE | oids::ANYCOMPATIBLENONARRAY => self.compatible,
            oids::ANYCOMPATIBLEARRAY => self.compatible.and_then(array_of),
            other => Some(other),
        }
    }
}

/// The type that all of `types` become in CASE, UNION, VALUES, ARRAY, GREATEST. Manual, 10.5. An error names the
/// two that do not go together.
pub fn common_type(types: &[Oid]) -> Result<Oid, (Oid, Oid)> {
    let Some(first) = types.first() else {
        return Ok(oids::TEXT);
    };
    if types.iter().all(|t| t == first) && *first != oids::UNKNOWN {
        return Ok(*first);
    }
    let mut chosen = *first;
    for &ty in &types[1..] {
        if ty == oids::UNKNOWN || ty == chosen {
            continue;
        }
        if chosen == oids::UNKNOWN {
            chosen = ty;
            continue;
        }
        if category(ty) != category(chosen) {
            return Err((chosen, ty));
        }
        if !is_preferred(chosen)
            && can_coerce(chosen, ty, CastContext::Implicit)
            && !can_coerce(ty, chosen, CastContext::Implicit)
        {
            chosen = ty;
        }
    }
    if chosen == oids::UNKNOWN {
        chosen = oids::TEXT;
    }
    Ok(chosen)
}
