"""The simulated loop: time jumps, order holds, dead processes say nothing, standing ones go on where they were."""

import asyncio

import pytest

from tests.simulation.loop import PROCESS, Crash, Process, SimulatedLoop, Stuck


def test_waiting_takes_no_time_and_keeps_its_order() -> None:
    loop, said = SimulatedLoop(), list[tuple[str, float]]()

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        said.append((name, loop.time()))

    async def main() -> None:
        await asyncio.gather(wait("c", 3600.0), wait("a", 5.0), wait("b", 5.0))

    loop.run(main())
    assert said == [("a", 5.0), ("b", 5.0), ("c", 3600.0)]
    loop.dispose()


def test_a_dead_process_says_nothing_more_not_even_goodbye() -> None:
    loop, said = SimulatedLoop(), list[str]()
    process = Process(loop, "a")

    async def work() -> None:
        try:
            await asyncio.sleep(1.0)
            said.append("worked")
        finally:
            said.append("finally")

    async def main() -> None:
        task = loop.create_task(work(), context=process.context)
        await asyncio.sleep(0.5)
        process.die("killed")
        await asyncio.sleep(10.0)
        assert not task.done() and not said
        with pytest.raises(Crash):
            await process.awake()

    loop.run(main())
    loop.dispose()


def test_a_process_that_stands_still_goes_on_where_it_was_and_others_do_not_wait() -> None:
    loop, said = SimulatedLoop(), list[tuple[str, float]]()
    still, other = Process(loop, "still"), Process(loop, "other")

    async def work() -> None:
        process = PROCESS.get()
        assert process is not None
        for _ in range(3):
            await asyncio.sleep(1.0)
            said.append((process.name, loop.time()))

    async def main() -> None:
        tasks = [loop.create_task(work(), context=process.context) for process in (still, other)]
        await asyncio.sleep(1.5)
        still.stand_still(10.0)
        assert still.now() == 11.5 and other.now() == 1.5
        await asyncio.gather(*tasks)

    loop.run(main())
    assert [at for name, at in said if name == "other"] == [1.0, 2.0, 3.0]
    assert [at for name, at in said if name == "still"] == [1.0, 11.5, 12.5]
    loop.dispose()


def test_a_run_that_waits_for_nothing_says_so() -> None:
    loop = SimulatedLoop()

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(Stuck, match="nothing is left to wait for"):
        loop.run(main())
    loop.dispose()


def test_work_in_a_thread_is_done_in_one_go_and_later() -> None:
    loop = SimulatedLoop()
    loop.work_s = lambda: 2.0

    async def main() -> float:
        return await asyncio.to_thread(loop.time)

    assert loop.run(main()) == 2.0
    loop.dispose()
