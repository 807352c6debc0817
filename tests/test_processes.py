"""One process is alone and knows it; FSDP is what `accelerate launch` says it is."""

from radscribe.training.processes import shards_weights, this_process


def test_a_process_that_nobody_launched_is_the_only_one():
    state = this_process()
    assert (state.process_index, state.num_processes, state.is_main_process) == (0, 1, True)


def test_weights_are_sharded_where_accelerate_says_so(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert not shards_weights()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert shards_weights()
