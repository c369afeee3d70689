//! What a crash leaves of the log: every image holds what was flushed, and can be written on.

use super::*;

/// Starts again on what a crash left: reads to the end, resumes there.
fn restart(
    disk: &SimDisk,
    from: Lsn,
    segment_size: u32,
) -> Result<(Arc<Wal>, Vec<Vec<u8>>), ReadError> {
    let wal = Wal::new(Arc::new(disk.clone()), config(segment_size, 64 * 1024));
    wal.segments().clean_up_and_sync().expect("cleaned up");
    let mut reader = reader(&wal, from);
    let mut found = Vec::new();
    let mut last = Lsn::INVALID;
    let end = loop {
        match reader.next() {
            Ok(record) => {
                found.push(record.main.to_vec());
                last = record.start;
            }
            Err(ReadError::EndOfLog { lsn, .. }) => break lsn,
            Err(other) => return Err(other),
        }
    };
    let aborted = reader.aborted();
    wal.begin_writing(StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: aborted.map_or(end, |a| a.missing),
        last_record: last,
        aborted,
    })
    .expect("goes on");
    if let Some(aborted) = aborted {
        let payload = xlog_records::OverwriteContrecord {
            overwritten: aborted.start,
            time_us: 0,
        };
        wal.insert(&Record {
            rmgr: RmgrId::XLOG,
            info: xlog_records::OVERWRITE_CONTRECORD,
            xid: Xid::INVALID,
            main: &payload.encode(),
            blocks: &[],
        });
    }
    Ok((wal, found))
}

#[test]
fn every_crash_image_holds_what_was_flushed_and_can_be_written_on() {
    const SEGMENT: u32 = 32 * 1024;
    let disk = SimDisk::new();
    prepare_dirs(&disk);
    let wal = start(Arc::new(disk.clone()), config(SEGMENT, 64 * 1024));
    let from = SegmentNumber::new(1).start(SEGMENT);
    let flushed = Arc::new(parking_lot::Mutex::new(0_usize));
    let frozen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let (at_flush, keep) = (flushed.clone(), frozen.clone());
    disk.on_sync(move |state| keep.lock().push((state.clone(), *at_flush.lock())));
    let lens = [
        100, 3000, 9000, 20, 5000, 20_000, 7, 700, 8100, 40_000, 1, 2500,
    ];
    for (i, len) in lens.iter().enumerate() {
        let end = wal.insert(&record(&pattern(*len, i as u8))).end;
        if i % 2 == 1 {
            wal.flush_blocking(end);
            *flushed.lock() = i + 1;
        }
    }
    disk.clear_on_sync();
    wal.stop();
    let mut images = 0;
    let mut moments = BTreeSet::new();
    for (state, flushed) in &*frozen.lock() {
        moments.insert(*flushed);
        for image in state.images(11).step_by(5) {
            images += 1;
            check_image(&image.disk, &image.name, from, SEGMENT, *flushed, &lens);
        }
    }
    // How many syncs serve a flush is the flush thread's; at least one does.
    let each: BTreeSet<usize> = (0..lens.len()).step_by(2).collect();
    assert_eq!(moments, each, "crashes in the middle of each flush");
    assert!(images > 100, "only {images} images");
}

fn check_image(
    disk: &SimDisk,
    name: &str,
    from: Lsn,
    segment: u32,
    flushed: usize,
    lens: &[usize],
) {
    let restarted = restart(disk, from, segment);
    let (wal, found) = restarted.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        found.len() >= flushed,
        "{name}: {} of {flushed} flushed records",
        found.len()
    );
    for (i, main) in found.iter().enumerate() {
        assert!(
            *main == pattern(lens[i], i as u8),
            "{name}: record {i} differs"
        );
    }
    // Goes on with the same lengths, so that stale bytes would fit if they were believed.
    let added: Vec<Vec<u8>> = lens
        .iter()
        .skip(found.len())
        .map(|len| pattern(*len, 0xEE))
        .collect();
    for main in &added {
        wal.insert(&record(main));
    }
    let first_added = added.len().min(1);
    wal.stop();
    let (again, end) = read_all(&wal, from);
    assert!(matches!(end, ReadError::EndOfLog { .. }), "{name}: {end}");
    let own: Vec<&Vec<u8>> = again.iter().filter(|m| m.len() != 16).collect();
    assert_eq!(
        own.len(),
        found.len() + added.len(),
        "{name}: records after going on"
    );
    assert!(
        first_added == 0 || *own[found.len()] == added[0],
        "{name}: the first new record"
    );
}
