use std::sync::Barrier;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::tensor::{Data, DataType, Port};

/// A model of one input and one output of numbers, and the runs it had.
struct Model {
    of: fn(&[f32]) -> Vec<f32>,
    /// Waited for at the beginning of each run, while it is there.
    gate: Option<Arc<Barrier>>,
    runs: Mutex<Vec<Vec<f32>>>,
    took: Duration,
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    let Data::Raw(bytes) = &tensor.data else { panic!("numbers") };
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn tensor(values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::new("x".into(), DataType::F32, vec![values.len() as i64], Data::Raw(Bytes::from(bytes))).unwrap()
}

impl Runtime for Model {
    fn platform(&self) -> &'static str {
        "test"
    }
    fn inputs(&self) -> Option<&[Port]> {
        None
    }
    fn outputs(&self) -> Option<&[Port]> {
        None
    }
    fn element_cost(&self, _: DataType) -> usize {
        0
    }
    fn slots(&self) -> usize {
        1
    }
    fn batches(&self) -> bool {
        true
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn infer(&self, inputs: Vec<Tensor>, stop: &Stop) -> Result<Vec<Tensor>, Failure> {
        let values = numbers(&inputs[0]);
        self.runs.lock().unwrap().push(values.clone());
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        assert!(!values.contains(&666.0), "the model's own fault");
        if values.contains(&-1.0) {
            return Err(Failure::new(ErrorCode::InvalidInput, "no -1"));
        }
        let until = Instant::now() + self.took;
        while Instant::now() < until && !stop.is_fired() {
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(vec![tensor(&(self.of)(&values))])
    }
}

struct Unseen;
impl Observer for Unseen {
    fn ran(&self, _: usize, _: &[Duration], _: Duration) {}
}

const DOUBLE: fn(&[f32]) -> Vec<f32> = |x| x.iter().map(|v| v * 2.0).collect();
const MINUS_MEAN: fn(&[f32]) -> Vec<f32> = |x| x.iter().map(|v| v - x.iter().sum::<f32>() / x.len() as f32).collect();

fn model(of: fn(&[f32]) -> Vec<f32>, took: Duration) -> Arc<Model> {
    Arc::new(Model { of, gate: None, runs: Mutex::default(), took })
}

fn batcher(model: &Arc<Model>) -> Arc<Batcher<()>> {
    let settings = Settings { rows_max: 64, run_time: Duration::from_secs(60) };
    Arc::new(Batcher::new(model.clone(), settings, Arc::new(Unseen)).unwrap())
}

fn request(values: &[f32]) -> Request<()> {
    let turn_by = Instant::now() + Duration::from_secs(60);
    Request { inputs: vec![tensor(values)], priority: 0, turn_by, answer_by: None, keep: () }
}

async fn ask(batcher: &Batcher<()>, values: &[f32]) -> Result<Vec<f32>, Failure> {
    let answer = batcher.submit(request(values))?.answer().await.expect("an answer");
    answer.0.map(|outputs| numbers(&outputs[0]))
}

/// Asks from many sides at once; panics where an answer is not what `of` gives
/// for the request alone.
async fn load(batcher: &Arc<Batcher<()>>, of: fn(&[f32]) -> Vec<f32>, rounds: usize) {
    let askers = (0..8).map(|asker| {
        let batcher = Arc::clone(batcher);
        tokio::spawn(async move {
            for round in 0..rounds {
                let values: Vec<f32> =
                    (0..1 + (asker + round) % 2).map(|n| (asker * 1000 + round + n) as f32).collect();
                assert_eq!(ask(&batcher, &values).await.unwrap(), of(&values), "{values:?}");
            }
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        asker.await.unwrap();
    }
}

#[tokio::test]
async fn requests_under_load_go_together_and_get_their_own_answers() {
    let model = model(DOUBLE, Duration::from_micros(300));
    let batcher = batcher(&model);
    // How many wait at once is up to the machine's own scheduler.
    let is_seen = || model.runs.lock().unwrap().iter().any(|run| run.len() > 4);
    for _ in 0..100 {
        load(&batcher, DOUBLE, 20).await;
        if is_seen() {
            return;
        }
    }
    panic!("{} runs, and none of more than 4 rows", model.runs.lock().unwrap().len());
}

#[tokio::test]
async fn a_model_that_mixes_rows_is_run_one_by_one() {
    let model = model(MINUS_MEAN, Duration::from_micros(300));
    let batcher = batcher(&model);
    while !batcher.shared.lock().trust.refuted() {
        load(&batcher, MINUS_MEAN, 10).await;
    }
    load(&batcher, MINUS_MEAN, 10).await;
}

#[tokio::test]
async fn a_lone_request_runs_at_once_and_alone() {
    let model = model(DOUBLE, Duration::ZERO);
    let batcher = batcher(&model);
    for n in 0..20 {
        assert_eq!(ask(&batcher, &[n as f32]).await.unwrap(), [2.0 * n as f32]);
    }
    // What was made up to see whether rows may go together comes after the answers.
    let of_callers = model.runs.lock().unwrap().iter().filter(|run| run.len() == 1).count();
    assert!(of_callers >= 20);
}

/// A batcher whose one lane is held in a first run until the barrier is met.
async fn held(model_of: fn(&[f32]) -> Vec<f32>) -> (Arc<Batcher<()>>, Arc<Model>, Arc<Barrier>, Turn<()>) {
    let gate = Arc::new(Barrier::new(2));
    let model =
        Arc::new(Model { of: model_of, gate: Some(gate.clone()), runs: Mutex::default(), took: Duration::ZERO });
    let batcher = batcher(&model);
    batcher.shared.lock().trust.fails();
    let mut first = batcher.submit(request(&[0.0])).unwrap();
    first.begun().await;
    (batcher, model, gate, first)
}

#[tokio::test]
async fn those_that_matter_more_go_first() {
    let (batcher, model, gate, first) = held(DOUBLE).await;
    let turns: Vec<_> = [(1.0, 5), (2.0, 1), (3.0, 5), (4.0, 0)]
        .map(|(value, priority)| batcher.submit(Request { priority, ..request(&[value]) }).unwrap())
        .into_iter()
        .collect();
    let opener = std::thread::spawn(move || (0..5).for_each(|_| _ = gate.wait()));
    first.answer().await.unwrap().0.unwrap();
    for turn in turns {
        turn.answer().await.unwrap().0.unwrap();
    }
    opener.join().unwrap();
    assert_eq!(*model.runs.lock().unwrap(), [[0.0], [4.0], [2.0], [1.0], [3.0]]);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_run() {
    let (batcher, model, gate, first) = held(DOUBLE).await;
    let gone = batcher.submit(request(&[1.0])).unwrap();
    let late = batcher.submit(Request { turn_by: Instant::now(), ..request(&[2.0]) }).unwrap();
    let stays = batcher.submit(request(&[3.0])).unwrap();
    drop(gone);
    assert_eq!(batcher.shared.lock().rows, 2, "who has gone delays nobody");
    let opener = std::thread::spawn(move || (0..2).for_each(|_| _ = gate.wait()));
    first.answer().await.unwrap().0.unwrap();
    assert_eq!(late.answer().await.unwrap().0.unwrap_err().code, ErrorCode::TooManyRequests);
    stays.answer().await.unwrap().0.unwrap();
    opener.join().unwrap();
    assert_eq!(*model.runs.lock().unwrap(), [[0.0], [3.0]]);
}

#[tokio::test]
async fn a_run_stops_when_all_have_gone() {
    let model = model(DOUBLE, Duration::from_secs(3600));
    let batcher = batcher(&model);
    let mut turn = batcher.submit(request(&[1.0])).unwrap();
    turn.begun().await;
    drop(turn);
    batcher.close();
}

#[tokio::test]
async fn what_would_be_late_is_refused_at_once() {
    let (batcher, _, gate, first) = held(DOUBLE).await;
    batcher.shared.lock().curve.record(1, Duration::from_secs(2));
    let waits = batcher.submit(request(&[1.0])).unwrap();
    let soon = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
    let refused = batcher.submit(Request { answer_by: soon(1), ..request(&[2.0]) }).err().unwrap();
    assert_eq!(refused.code, ErrorCode::TooManyRequests);
    assert!(refused.message.contains("try again later"), "{}", refused.message);
    let taken = batcher.submit(Request { answer_by: soon(30), ..request(&[3.0]) }).unwrap();
    let opener = std::thread::spawn(move || (0..3).for_each(|_| _ = gate.wait()));
    for turn in [first, waits, taken] {
        turn.answer().await.unwrap().0.unwrap();
    }
    opener.join().unwrap();
}

#[tokio::test]
async fn what_nobody_knows_the_time_of_is_not_refused() {
    let (batcher, _, gate, first) = held(DOUBLE).await;
    batcher.shared.lock().curve.record(1, Duration::from_millis(1));
    let soon = Some(Instant::now() + Duration::from_secs(60));
    let large = batcher.submit(Request { answer_by: soon, ..request(&vec![1.0; 1_000_000]) }).unwrap();
    let behind = batcher.submit(Request { answer_by: soon, ..request(&[1.0]) }).unwrap();
    let opener = std::thread::spawn(move || (0..3).for_each(|_| _ = gate.wait()));
    for turn in [first, large, behind] {
        turn.answer().await.unwrap().0.unwrap();
    }
    opener.join().unwrap();
}

#[tokio::test]
async fn one_bad_request_harms_no_other() {
    let model = model(DOUBLE, Duration::from_micros(500));
    let batcher = batcher(&model);
    while !batcher.shared.lock().trust.is_proven() {
        load(&batcher, DOUBLE, 10).await;
    }
    let asked: Vec<_> =
        [1.0, -1.0, 2.0, 3.0].map(|value| batcher.submit(request(&[value])).unwrap()).into_iter().collect();
    let mut answers = Vec::new();
    for turn in asked {
        answers.push(turn.answer().await.unwrap().0.map(|outputs| numbers(&outputs[0])));
    }
    assert_eq!(answers[0].as_ref().unwrap(), &[2.0]);
    assert_eq!(answers[1].as_ref().unwrap_err().message, "no -1");
    assert_eq!((answers[2].as_ref().unwrap(), answers[3].as_ref().unwrap()), (&vec![4.0], &vec![6.0]));
    assert_eq!(ask(&batcher, &[666.0]).await.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(ask(&batcher, &[5.0]).await.unwrap(), [10.0], "a panic is not the end");
}

proptest! {
    #[test]
    fn near_is_the_same_and_far_is_not(value in -1e6f32..1e6, off in prop_oneof![Just(0.0f32), 0.01f32..0.5]) {
        let near = tensor(&[value]);
        let other = tensor(&[value + value.abs() * off + off]);
        prop_assert_eq!(trust::same(std::slice::from_ref(&near), &[other]), off == 0.0);
    }
}

/// Requests that would make their time alone do not go into a batch that would not.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_no_larger_than_its_requests_have_time_for() {
    let model = model(DOUBLE, Duration::from_millis(1));
    let batcher = batcher(&model);
    let mut state = batcher.shared.lock();
    for rows in [1, 2, 4, 8] {
        state.curve.record(rows, Duration::from_millis(100 * rows as u64));
    }
    (0..100).for_each(|_| state.trust.holds());
    let now = Instant::now();
    let soon = |ms: u64| Some(now + Duration::from_millis(ms));
    let mut waiting = Vec::new();
    for answer_by in [soon(50), soon(150), soon(1000), None] {
        let (began, _) = tokio::sync::oneshot::channel();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let request = Request { answer_by, ..request(&[1.0]) };
        let next = state.next;
        state.next += 1;
        let interest = Arc::new(Interest::default());
        state.queue.insert((0, next), Waiting { request, rows: Some(1), since: now, began, answer, interest });
        waiting.push(answered);
    }
    let taken = lane::take(&mut state, now);
    assert_eq!(taken.iter().map(|w| w.request.answer_by).collect::<Vec<_>>(), [soon(150)]);
    let late = waiting.remove(0).try_recv().unwrap().0.unwrap_err();
    assert_eq!(late.code, ErrorCode::TooManyRequests);
    let rest = lane::take(&mut state, now);
    assert_eq!(rest.iter().map(|w| w.request.answer_by).collect::<Vec<_>>(), [soon(1000), None]);
}
