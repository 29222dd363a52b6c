from mooring.bench.work import Work, at_once, prompts, work_list


def test_the_work_list_is_the_same_everywhere() -> None:
    single, first, eight, many = work_list()
    assert [s.name for s in (single, first, eight, many)] == [
        "single", "first token", "8 at once", "32 at once",
    ]  # fmt: skip
    assert single.work == (Work(64, 128),)
    assert first.work == (Work(512, 1),)
    assert (eight.prompt_tokens, eight.output_tokens) == (976, 438)
    assert (many.prompt_tokens, many.output_tokens) == (4043, 2124)
    assert many.work[:8] == eight.work


def test_quick_is_an_eighth_and_never_empty() -> None:
    single, first, four = work_list([4], quick=True)
    assert single.work == (Work(8, 16),)
    assert first.work == (Work(64, 1),)
    assert all(2 <= w.prompt_tokens <= 32 and 2 <= w.output_tokens <= 16 for w in four.work)


def test_prompts_have_the_lengths_and_differ_from_run_to_run() -> None:
    scenario = at_once(8)
    first, again, second = (prompts(scenario, run, 300) for run in (1, 1, 2))
    assert [len(p) for p in first] == [w.prompt_tokens for w in scenario.work]
    assert all(5 <= id < 300 for prompt in first for id in prompt)
    assert first == again
    assert not set(first) & set(second)
    assert len(set(first)) == 8
