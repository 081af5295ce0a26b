//! Links, order and memory of the tree itself; its effects are tested with the state.

use super::*;

fn new_node(name: &str, czxid: i64, data: usize) -> NewNode<'_> {
    const BYTES: [u8; 3000] = [b'x'; 3000];
    NewNode { name, data: Some(&BYTES[..data]), acl: 1, stat: fresh_stat(czxid, 1 << 40) }
}

#[test]
fn children_keep_the_order_of_their_creation_through_any_removal() {
    let mut tree = Tree::new(1);
    let mut names: Vec<String> = Vec::new();
    let mut state = 1u64;
    for round in 0..5000u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round);
        if state >> 40 & 1 == 0 && !names.is_empty() {
            let name = names.remove((state >> 41) as usize % names.len());
            tree.remove(tree.child(Tree::ROOT, &name).unwrap());
        } else {
            let name = format!("n{round}");
            tree.insert(Tree::ROOT, &new_node(&name, round as i64, 10)).unwrap();
            names.push(name);
        }
        if round % 50 == 0 {
            assert!(tree.children(Tree::ROOT).map(|(_, name)| name).eq(names.iter()));
        }
    }
    assert_eq!(tree.child_count(Tree::ROOT) as usize, names.len());
}

#[test]
fn removing_all_frees_all() {
    let mut tree = Tree::new(1);
    for round in 0..3 {
        for index in 0..3000 {
            let name = format!("n{index}");
            let parent = if index % 3 == 0 {
                Tree::ROOT
            } else {
                tree.lookup(&format!("/n{}", index / 3 * 3)).unwrap()
            };
            let node = tree.insert(parent, &new_node(&name, index, index as usize)).unwrap();
            if index % 5 == 0 {
                tree.update_stat(node, |stat| stat.version = 1);
            }
        }
        assert_eq!((tree.len(), tree.descendants_count(Tree::ROOT)), (3001, 3000));
        for index in (0..3000).step_by(3) {
            tree.remove(tree.lookup(&format!("/n{index}")).unwrap());
        }
        assert_eq!((tree.len(), tree.data_bytes()), (1, 0), "round {round}");
        assert_eq!(tree.slots(), 3001);
        assert!((1..3001).all(|slot| tree.at_slot(slot).is_none()));
        assert!(tree.lookup("/n0").is_none());
    }
}

#[test]
fn the_same_name_below_many_parents_is_found_for_each() {
    let mut tree = Tree::new(1);
    for index in 0..2000 {
        let parent = tree.insert(Tree::ROOT, &new_node(&index.to_string(), index, 1)).unwrap();
        let child = tree.insert(parent, &new_node("lock", index, 2)).unwrap();
        assert_eq!(tree.insert(parent, &new_node("lock", index, 2)), None);
        assert_eq!(tree.lookup(&format!("/{index}/lock")), Some(child));
    }
    for index in 0..2000 {
        let node = tree.lookup(&format!("/{index}/lock")).unwrap();
        assert_eq!(tree.persisted(node), fresh_stat(index, 1 << 40));
        assert_eq!((tree.name(node), tree.acl(node)), ("lock", 1));
    }
}

#[test]
fn czxids_and_times_of_every_size_survive_the_short_form() {
    let mut tree = Tree::new(1);
    for (index, value) in
        [0, 1, -1, i64::MAX, i64::MIN, 0x1_0000_0001, 0x7fff_ffff_ffff].into_iter().enumerate()
    {
        for (other_index, other) in [0, -5, i64::MAX, 1_700_000_000_000].into_iter().enumerate() {
            let name = format!("{index}-{other_index}");
            let stat = fresh_stat(value, other);
            for acl in [-1, 1, i64::MAX] {
                let new = NewNode { acl, stat, ..new_node(&name, 0, 0) };
                let node = tree.insert(Tree::ROOT, &new).unwrap();
                assert_eq!((tree.persisted(node), tree.acl(node)), (stat, acl));
                tree.set_acl(node, 3);
                assert_eq!((tree.persisted(node), tree.acl(node)), (stat, 3));
                tree.remove(node);
            }
        }
    }
}

#[test]
fn odd_paths_name_no_node() {
    let mut tree = Tree::new(1);
    tree.insert(Tree::ROOT, &new_node("a", 1, 1)).unwrap();
    for path in ["/", ""] {
        assert_eq!(tree.lookup(path), Some(Tree::ROOT));
    }
    for path in ["a", "/a/", "//", "//a", "/a//", " ", "/A", "/a\0"] {
        assert_eq!(tree.lookup(path), None, "{path:?}");
    }
}
