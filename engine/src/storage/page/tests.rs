//! The layout against a model; the checksum against values that PostgreSQL's `pg_checksums` printed.

use proptest::prelude::*;

use super::*;

#[test]
fn the_checksum_is_postgresqls() {
    // A page whose byte i is 7i + 13 block + 31 (i / 256); `pg_checksums --check` of PostgreSQL 15 calculated these.
    for (block, sum) in [(0, 0x2105), (1, 0x7F16), (2, 0x33CC)] {
        let mut page = [0; PAGE_SIZE];
        for (i, byte) in page.iter_mut().enumerate() {
            *byte = (i * 7 + block * 13 + (i >> 8) * 31) as u8;
        }
        assert_eq!(
            checksum_of(&page, BlockNumber::new(block as u32)),
            sum,
            "block {block}"
        );
    }
}

#[test]
fn a_new_page_is_zeroes_and_gets_no_checksum() {
    let mut page = [0; PAGE_SIZE];
    assert!(is_new(&page) && header_is_valid(&page));
    set_checksum(&mut page, BlockNumber::new(9));
    assert_eq!(page, [0; PAGE_SIZE]);
    page[8000] = 1;
    assert!(
        !header_is_valid(&page),
        "a page without header but with bytes is damaged"
    );
}

#[test]
fn the_lsn_is_stored_high_half_first() {
    let mut page = [0; PAGE_SIZE];
    set_lsn(&mut page, Lsn::new(0x0102_0304_0506_0708));
    assert_eq!(page[..8], [4, 3, 2, 1, 8, 7, 6, 5]);
    assert_eq!(lsn(&page), Lsn::new(0x0102_0304_0506_0708));
}

#[test]
fn an_item_that_does_not_fit_is_refused() {
    let mut page = [0; PAGE_SIZE];
    init(&mut page, 16);
    let all = PAGE_SIZE - HEADER_SIZE - ITEM_ID_SIZE - 16;
    assert_eq!(free_space(&page), all);
    assert_eq!(add_item(&mut page, &vec![1; all + 1]), None);
    assert_eq!(
        add_item(&mut page, &vec![1; all]),
        Some(OffsetNumber::FIRST)
    );
    assert_eq!(free_space(&page), 0);
    assert_eq!(
        add_item(&mut page, b""),
        None,
        "no room for the line pointer"
    );
    assert!(header_is_valid(&page));
}

#[derive(Debug, Clone)]
enum Op {
    Add(Vec<u8>),
    InsertAt(usize, Vec<u8>),
    RemoveAt(usize),
    Replace(usize, Vec<u8>),
    Dead(usize),
    Unused(usize),
    Redirect(usize, usize),
    Compact,
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => bytes().prop_map(Op::Add),
        2 => (any::<usize>(), bytes()).prop_map(|(i, b)| Op::InsertAt(i, b)),
        1 => any::<usize>().prop_map(Op::RemoveAt),
        2 => (any::<usize>(), bytes()).prop_map(|(i, b)| Op::Replace(i, b)),
        1 => any::<usize>().prop_map(Op::Dead),
        1 => any::<usize>().prop_map(Op::Unused),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(i, j)| Op::Redirect(i, j)),
        1 => Just(Op::Compact),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Slot {
    Item(Vec<u8>),
    Dead,
    Unused,
    Redirect(u16),
}

fn offset(n: usize) -> OffsetNumber {
    OffsetNumber::new(n as u16 + 1).expect("not zero")
}

fn apply(page: &mut PageBuf, model: &mut Vec<Slot>, op: Op) {
    let count = model.len();
    match op {
        Op::Add(bytes) => {
            let at = model
                .iter()
                .position(|s| *s == Slot::Unused)
                .unwrap_or(count);
            if add_item(page, &bytes) == Some(offset(at)) {
                if at == count {
                    model.push(Slot::Unused);
                }
                model[at] = Slot::Item(bytes);
            }
        }
        Op::InsertAt(at, bytes) => {
            let at = at % (count + 1);
            if insert_item_at(page, offset(at), &bytes).is_ok() {
                model.insert(at, Slot::Item(bytes));
            }
        }
        Op::Compact => {
            compact(page).expect("a sound page");
            while model.last() == Some(&Slot::Unused) {
                model.pop();
            }
            let used: usize = model
                .iter()
                .map(|s| if let Slot::Item(b) = s { b.len() } else { 0 })
                .sum();
            let all = PAGE_SIZE - HEADER_SIZE - 16 - model.len() * ITEM_ID_SIZE;
            assert_eq!(gap(page), all - used, "compaction leaves holes");
        }
        _ if count == 0 => {}
        Op::RemoveAt(at) => {
            remove_item_at(page, offset(at % count)).expect("exists");
            model.remove(at % count);
        }
        Op::Replace(at, bytes) => {
            let is_item = matches!(model[at % count], Slot::Item(_));
            if replace_item(page, offset(at % count), &bytes).is_ok() {
                assert!(is_item);
                model[at % count] = Slot::Item(bytes);
            }
        }
        Op::Dead(at) => {
            set_dead(page, offset(at % count)).expect("exists");
            model[at % count] = Slot::Dead;
        }
        Op::Unused(at) => {
            set_unused(page, offset(at % count)).expect("exists");
            model[at % count] = Slot::Unused;
        }
        Op::Redirect(at, to) => {
            let to = offset(to % count);
            set_redirect(page, offset(at % count), to).expect("exists");
            model[at % count] = Slot::Redirect(to.raw());
        }
    }
}

proptest! {
    #[test]
    fn pages_agree_with_a_model(ops in prop::collection::vec(op(), 1..150)) {
        let mut page = [0; PAGE_SIZE];
        init(&mut page, 16);
        let mut model: Vec<Slot> = Vec::new();
        for op in ops {
            apply(&mut page, &mut model, op);
            prop_assert!(header_is_valid(&page));
            prop_assert_eq!(usize::from(item_count(&page)), model.len());
            for (i, slot) in model.iter().enumerate() {
                let state = item_state(&page, offset(i));
                match slot {
                    Slot::Item(bytes) => {
                        prop_assert_eq!(item(&page, offset(i)), Some(bytes.as_slice()));
                    }
                    Slot::Dead => prop_assert_eq!(state, ItemState::Dead),
                    Slot::Unused => prop_assert_eq!(state, ItemState::Unused),
                    Slot::Redirect(to) => {
                        let to = OffsetNumber::new(*to).expect("not zero");
                        prop_assert_eq!(state, ItemState::Redirect(to));
                    }
                }
            }
            let (at, len) = hole(&page);
            let middle = &page[usize::from(at)..usize::from(at + len)];
            prop_assert!(middle.iter().all(|b| *b == 0), "bytes in the gap");
        }
    }
}

/// Sixteen bits miss one change in 65,535, so of all bits of a page about one. PostgreSQL's misses the same.
#[test]
fn the_checksum_sees_flipped_bits() {
    let mut page = [0; PAGE_SIZE];
    init(&mut page, 0);
    add_item(&mut page, b"something").expect("fits");
    let block = BlockNumber::new(123_980_984);
    set_checksum(&mut page, block);
    assert_eq!(stored_checksum(&page), checksum_of(&page, block));
    let mut missed = Vec::new();
    for bit in 0..PAGE_SIZE * 8 {
        page[bit / 8] ^= 1 << (bit % 8);
        if stored_checksum(&page) == checksum_of(&page, block) {
            missed.push(bit);
        }
        page[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(
        missed.contains(&(6_044 * 8 + 2)),
        "one that is known: {missed:?}"
    );
    assert!(missed.len() <= 8, "{missed:?}");
}
