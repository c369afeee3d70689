//! Joins at random against loops that do just what the words say.

use super::*;

/// A column of a range to the left, as a number that is reduced to those there are.
type Any = usize;
type Wide = Vec<Option<i64>>;

#[derive(Debug, Clone)]
enum Piece {
    Table(Rows),
    /// `generate_series(a, b)`
    Series(Any, Any),
    /// `SELECT c0, c1 + a FROM rows WHERE c0 = b`
    Filtered(Rows, Any, Any),
    /// `SELECT c0, g FROM rows, generate_series(c0, a) g`
    Nested(Rows, Any),
}

#[derive(Debug, Clone)]
struct Part {
    piece: Piece,
    /// It begins a new item of FROM.
    comma: bool,
    /// LEFT JOIN, not JOIN.
    left: bool,
    /// `on a = own column`
    on: Option<(Any, usize)>,
}

impl Piece {
    fn width(&self) -> usize {
        match self {
            Piece::Series(..) => 1,
            _ => 2,
        }
    }
}

fn rows() -> impl Strategy<Value = Rows> {
    let value = prop_oneof![1 => Just(None), 5 => (0..4_i32).prop_map(Some)];
    proptest::collection::vec(proptest::collection::vec(value, 2), 0..5)
}

fn part() -> impl Strategy<Value = Part> {
    let pick = || 0..64_usize;
    let piece = prop_oneof![
        rows().prop_map(Piece::Table),
        (pick(), pick()).prop_map(|(a, b)| Piece::Series(a, b)),
        (rows(), pick(), pick()).prop_map(|(r, a, b)| Piece::Filtered(r, a, b)),
        (rows(), pick()).prop_map(|(r, a)| Piece::Nested(r, a)),
    ];
    let on = proptest::option::of((pick(), 0..2_usize));
    (piece, any::<bool>(), any::<bool>(), on).prop_map(|(piece, comma, left, on)| Part {
        piece,
        comma,
        left,
        on,
    })
}

/// The columns of the ranges from `first` on, before `end`.
fn columns(parts: &[Part], first: usize, end: usize) -> Vec<(usize, usize)> {
    let ranges = first..end;
    ranges
        .flat_map(|r| (0..parts[r].piece.width()).map(move |c| (r, c)))
        .collect()
}

fn place(parts: &[Part], first: usize, end: usize, any: Any) -> (usize, usize) {
    let columns = columns(parts, first, end);
    columns[any % columns.len()]
}

fn series(first: Expr, last: Expr) -> Expr {
    let function = functions::by_oid(Oid::new(1067)).expect("generate_series(int4, int4)");
    Expr::Call {
        function,
        args: vec![first, last],
        ty: INT,
    }
}

fn series_range(alias: &str, call: Expr) -> Range {
    Range {
        alias: alias.to_owned(),
        source: RangeSource::Function {
            calls: vec![RangeCall { call, columns: 1 }],
            with_ordinality: false,
        },
        columns: vec![RangeColumn {
            name: "c0".to_owned(),
            ty: INT,
        }],
    }
}

fn subquery(alias: &str, query: Query) -> Range {
    let named = |n: usize| RangeColumn {
        name: format!("c{n}"),
        ty: INT,
    };
    Range {
        alias: alias.to_owned(),
        source: RangeSource::Subquery(Box::new(query)),
        columns: vec![named(0), named(1)],
    }
}

fn range_of(parts: &[Part], number: usize) -> Range {
    let alias = format!("r{number}");
    let at = |any: &Any| place(parts, 0, number, *any);
    let own = |any: &Any| {
        let (range, place) = at(any);
        column(range, place)
    };
    let outer = |any: &Any| {
        Expr::Outer(Box::new(OuterRef {
            level: 0,
            expr: own(any),
        }))
    };
    match &parts[number].piece {
        Piece::Table(rows) => range(&alias, 2, rows),
        Piece::Series(a, b) => series_range(&alias, series(own(a), own(b))),
        Piece::Filtered(rows, a, b) => {
            let values = vec![column(0, 0), op("+", column(0, 1), outer(a))];
            let mut s = select(vec![range("d", 2, rows)], vec![FromItem::Range(0)], values);
            s.level = Some(1);
            s.filter = Some(op("=", column(0, 0), outer(b)));
            subquery(&alias, query(s))
        }
        Piece::Nested(rows, a) => {
            let ranges = vec![
                range("d", 2, rows),
                series_range("g", series(column(0, 0), outer(a))),
            ];
            let from = vec![FromItem::Range(0), FromItem::Range(1)];
            let mut s = select(ranges, from, vec![column(0, 0), column(1, 0)]);
            s.level = Some(1);
            subquery(&alias, query(s))
        }
    }
}

fn statement(parts: &[Part], equal: &[(Any, Any)]) -> Query {
    let mut from: Vec<FromItem> = Vec::new();
    let mut first = 0;
    for (number, part) in parts.iter().enumerate() {
        let item = FromItem::Range(number);
        if number == 0 || part.comma {
            first = number;
            from.push(item);
            continue;
        }
        let on = part.on.map(|(any, own)| {
            let (range, place) = place(parts, first, number, any);
            let own = own % part.piece.width();
            op("=", column(range, place), column(number, own))
        });
        let kind = match part.left {
            true => JoinKind::Left,
            false => JoinKind::Inner,
        };
        let left = from.pop().expect("an item is begun");
        from.push(join(kind, left, item, on));
    }
    let ranges = (0..parts.len()).map(|n| range_of(parts, n)).collect();
    let all = columns(parts, 0, parts.len());
    let targets = all.iter().map(|(r, c)| column(*r, *c)).collect();
    let mut s = select(ranges, from, targets);
    s.level = Some(0);
    let conditions: Vec<Expr> = equal
        .iter()
        .map(|(a, b)| {
            let ((r, c), (r2, c2)) = (all[a % all.len()], all[b % all.len()]);
            op("=", column(r, c), column(r2, c2))
        })
        .collect();
    if !conditions.is_empty() {
        s.filter = Some(Expr::And(conditions));
    }
    query(s)
}

fn same(a: Option<i64>, b: Option<i64>) -> bool {
    a.is_some() && a == b
}

fn up_to(first: Option<i64>, last: Option<i64>) -> Vec<i64> {
    match (first, last) {
        (Some(first), Some(last)) => (first..=last).collect(),
        _ => Vec::new(),
    }
}

/// What a range gives for one row of those to its left.
fn rows_of(parts: &[Part], number: usize, row: &[Option<i64>]) -> Vec<Wide> {
    let at = |any: &Any| row[any % row.len()];
    let wide = |row: &Vec<Option<i32>>| -> Wide { row.iter().map(|v| v.map(i64::from)).collect() };
    match &parts[number].piece {
        Piece::Table(rows) => rows.iter().map(wide).collect(),
        Piece::Series(a, b) => {
            let all = up_to(at(a), at(b)).into_iter();
            all.map(|v| vec![Some(v)]).collect()
        }
        Piece::Filtered(rows, a, b) => {
            let found = rows.iter().map(wide).filter(|d| same(d[0], at(b)));
            found
                .map(|d| vec![d[0], d[1].zip(at(a)).map(|(x, y)| x + y)])
                .collect()
        }
        Piece::Nested(rows, a) => {
            let pairs = rows.iter().map(wide).flat_map(|d| {
                let all = up_to(d[0], at(a)).into_iter();
                all.map(move |g| vec![d[0], Some(g)]).collect::<Vec<_>>()
            });
            pairs.collect()
        }
    }
}

/// One range after the other, for each row so far.
fn model(parts: &[Part], equal: &[(Any, Any)]) -> Vec<Wide> {
    let mut made: Vec<Wide> = vec![Vec::new()];
    let (mut first, mut begun) = (0, 0);
    for (number, part) in parts.iter().enumerate() {
        let joins = number > 0 && !part.comma;
        if !joins {
            first = begun;
        }
        let width = part.piece.width();
        let mut next = Vec::new();
        for row in &made {
            let mut matched = false;
            for own in rows_of(parts, number, row) {
                let fits = match part.on {
                    Some((any, column)) if joins => {
                        let tree = &row[first..];
                        same(tree[any % tree.len()], own[column % width])
                    }
                    _ => true,
                };
                if fits {
                    matched = true;
                    next.push([row.clone(), own].concat());
                }
            }
            if joins && part.left && !matched {
                next.push([row.clone(), vec![None; width]].concat());
            }
        }
        made = next;
        begun += width;
    }
    let holds = |row: &Wide| {
        let value = |any: &Any| row[any % row.len()];
        equal.iter().all(|(a, b)| same(value(a), value(b)))
    };
    made.retain(holds);
    sorted(made)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn joins_at_random(
        table in rows(),
        rest in proptest::collection::vec(part(), 1..5),
        equal in proptest::collection::vec((0..64_usize, 0..64_usize), 0..3),
        hash: bool,
        loops: bool,
        material: bool,
        small: bool
    ) {
        let first = Part { piece: Piece::Table(table), comma: false, left: false, on: None };
        let parts: Vec<Part> = std::iter::once(first).chain(rest).collect();
        let settings = PlannerSettings {
            enable_hashjoin: hash,
            enable_nestloop: loops,
            enable_material: material,
            ..PlannerSettings::default()
        };
        let want = model(&parts, &equal);
        let work = if small { 1 } else { 1 << 20 };
        let got = run(statement(&parts, &equal), &settings, work);
        prop_assert_eq!(sorted(got), want);
    }
}
