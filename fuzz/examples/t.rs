fn main(){ let t=std::time::Instant::now(); for s in paxfs_fuzz::samples::samples(){ 
 let mut m=std::collections::BTreeMap::new(); for x in &s.structures { let k: String = x.text.chars().filter(|c|!c.is_ascii_digit()).collect(); *m.entry(k).or_insert(0)+=1; }
 println!("{} used {} structures {} {:?} rmap roots", s.name, s.used.len(), s.structures.len(), m);} println!("{:?}", t.elapsed()); }
