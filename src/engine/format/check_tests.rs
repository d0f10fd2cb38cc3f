//! Superblocks that are none, and those that say what cannot be: each is refused by name.

use super::check::{self, Access, Found};
use super::format_tests::{bytes_of, superblock};
use super::page;
use super::superblock::{HEAD_LEN, Layer, LayerState, MergeState, Superblock};
use super::{Entry, Shape};

#[test]
fn what_is_no_superblock_is_told_apart() {
    let mut random = fastrand::Rng::with_seed(1);
    let superblock = superblock(&mut random, Shape::PRODUCT);
    let good = bytes_of(&superblock);
    let slot = superblock.slot();
    assert!(matches!(check::look(&good, slot), Found::Superblock(_)));
    for (name, at, byte, sealed, found) in [
        ("damage", 2000, 1, false, Found::Damaged),
        ("another magic", 4, b'X', true, Found::Nothing),
        ("another kind", 8, 2, true, Found::Nothing),
        ("another version", 10, 2, true, Found::OtherVersion(2)),
        ("another description", 176, 3, true, Found::OtherVersion(3)),
        ("a torn version", 10, 2, false, Found::Damaged),
    ] {
        let mut bytes = good.clone();
        bytes[at] = if at == 2000 { !bytes[at] } else { byte };
        if sealed {
            page::seal(&mut bytes[..HEAD_LEN]);
        }
        assert_eq!(check::look(&bytes, slot), found, "{name}");
    }
    assert_eq!(check::look(&[0; 4096], slot), Found::Nothing);
    assert_eq!(check::look(&good[..4000], slot), Found::Damaged);
    assert_eq!(check::look(&good[..10], slot), Found::Nothing);
}

fn with_two_layers() -> Superblock {
    let mut random = fastrand::Rng::with_seed(3);
    let mut good = superblock(&mut random, Shape::PRODUCT);
    good.layers[0] = Some(Layer {
        root: Entry::ABSENT,
        state: LayerState::Sealed,
        parent: None,
    });
    good.layers[1] = Some(Layer {
        root: Entry::ZERO,
        state: LayerState::Active,
        parent: Some(0),
    });
    good.layers[2..].fill(None);
    good.active_layer = 1;
    good
}

#[test]
fn a_merge_that_cannot_be_is_refused() {
    type Change = fn(&mut Superblock);
    let changes: [(&str, Change); 3] = [
        ("a merge is under way and not said", |s| {
            s.features.ro_compat = 1
        }),
        ("a merge of layer 9, which is not", |s| {
            s.features.ro_compat = 1;
            s.merge.state = MergeState::UnderWay;
            s.merge.top = 9;
        }),
        ("layer 0, which was merged, is in use", |s| s.merge.kept = 1),
    ];
    for (says, change) in changes {
        let mut bad = with_two_layers();
        change(&mut bad);
        let refusal = check::check(&bad, Shape::PRODUCT).expect_err(says);
        assert!(refusal.to_string().contains(says), "{refusal}, not: {says}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    type Change = fn(&mut Superblock);
    let changes: [(&str, Change); 24] = [
        ("newer cowroot: it uses compressed slots", |s| {
            s.features.incompat = 1
        }),
        ("(bit 63)", |s| s.features.incompat = 1 << 63),
        ("zones of 1023 slots", |s| s.shape.zone_slots = 1023),
        ("no bytes", |s| s.device_bytes = 0),
        ("two superblocks take", |s| s.max_slots = 2048),
        ("9223372036854775808 bytes", |s| s.device_bytes = 1 << 63),
        ("generation number", |s| s.generation = 1 << 62),
        ("epoch number", |s| s.epoch = u64::MAX),
        ("page of the journal number", |s| s.journal.seq = u64::MAX),
        ("durable page number", |s| s.durable_seq = u64::MAX),
        ("room for both", |s| s.file_slots = 0),
        ("room for both", |s| s.file_slots = 2047),
        ("slots of at most", |s| s.grown_slots = s.max_slots + 1),
        ("in use up to", |s| s.high_water = s.max_slots + 1),
        ("journal from slot 2047", |s| s.journal.slot = 2047),
        ("journal from slot", |s| s.journal.slot = s.grown_slots),
        ("its tree at slot 2047", |s| {
            s.layers[1].as_mut().unwrap().root.slot = 2047
        }),
        ("its tree at slot", |s| {
            s.layers[1].as_mut().unwrap().root.slot = s.grown_slots
        }),
        ("journal from slot 2050", |s| {
            (s.file_slots, s.journal.slot) = (2050, 2050)
        }),
        ("a description of", |s| {
            s.description = vec![0; (4 << 20) - 4095]
        }),
        ("not an active one", |s| s.active_layer = 64),
        ("not an active one", |s| s.active_layer = 0),
        ("stands on 63, which is not", |s| {
            s.layers[0].as_mut().unwrap().parent = Some(63)
        }),
        ("stands on itself", |s| {
            s.layers[0].as_mut().unwrap().parent = Some(0)
        }),
    ];
    let mut good = with_two_layers();
    assert_eq!(check::check(&good, Shape::PRODUCT), Ok(Access::ReadWrite));
    for (says, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let refusal = check::check(&bad, Shape::PRODUCT).expect_err(says);
        assert!(refusal.to_string().contains(says), "{refusal}, not: {says}");
    }
    good.features.ro_compat = 2;
    let name = "a feature without a name here (bit 1)".to_owned();
    assert_eq!(
        check::check(&good, Shape::PRODUCT),
        Ok(Access::ReadOnly(vec![name]))
    );
}
