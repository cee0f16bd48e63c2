"""The workloads W1 to W4 in Python: an agent of the original's shape on asyncio, beside fedagent.

asyncio_agent.py [--quick] [--filter <regular expression>]

Prints what Google Benchmark prints with --benchmark_format=json, as far as report.py reads it. As in
the original a queue, a dict and locks make an agent, and a task is started for each time that a node
is WAITING. It leaves out what fedagent does besides: leases and redelivery, deadlines and ages,
several polls of one node, outcomes other than the reply, counters, and hooks.
"""

import argparse
import asyncio
import enum
import gc
import json
import random
import re
import sys
import time
import tracemalloc

DISCONNECT_TIMEOUT = 3600.0  # seconds, as for the other peers


class Message:
    __slots__ = ("request_id", "body", "__weakref__")

    def __init__(self, request_id, body):
        self.request_id = request_id
        self.body = body


class Status(enum.Enum):
    WAITING = 1
    ACTIVE = 2
    DISCONNECTED = 3


class Agent:
    def __init__(self, node_id):
        self.id = node_id
        self._status = Status.ACTIVE
        self._queue = asyncio.Queue()
        self._open = {}
        self._timer = None
        self._status_lock = asyncio.Lock()
        self._open_lock = asyncio.Lock()

    async def send(self, message, on_reply=None):
        async with self._status_lock:
            if self._status is Status.DISCONNECTED:
                return False
        if message.request_id:
            async with self._open_lock:
                self._open.setdefault(message.request_id, on_reply)
        await self._queue.put((message, 0, time.time()))
        return True

    async def get_task(self):
        task = await self._queue.get()
        self._queue.task_done()
        return task[0]

    async def on_reply(self, message):
        async with self._open_lock:
            handler = self._open.pop(message.request_id, None)
            if handler is not None:
                handler(message)

    async def poll_opened(self):
        async with self._status_lock:
            self._status = Status.ACTIVE
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    async def poll_ended(self):
        async with self._status_lock:
            self._status = Status.WAITING
            if self._timer is None:
                self._timer = asyncio.create_task(self._disconnect())

    async def _disconnect(self):
        await asyncio.sleep(DISCONNECT_TIMEOUT)
        async with self._status_lock:
            if self._status is Status.WAITING:
                self._status = Status.DISCONNECTED
            self._timer = None


class Store:
    def __init__(self):
        self._agents = {}
        self._lock = asyncio.Lock()

    async def get(self, node_id):
        async with self._lock:
            return self._agents.get(node_id)

    async def retrieve(self, node_id):
        async with self._lock:
            agent = self._agents.get(node_id)
            if agent is None:
                agent = self._agents[node_id] = Agent(node_id)
            return agent


# --- What all workloads need ---------------------------------------------------------------------


def node_ids(count):
    return [f"node_7d1f4c1e-2b7a-4c59-9e03-{i:012}" for i in range(count)]


def shuffled(items):
    order = list(items)
    random.Random(41).shuffle(order)
    return order


def request(number):
    return Message(f"5f0c3a52-9d41-4b7e-8a6f-{number:012x}", b"w" * 64)


def reply_to(task):
    return Message(task.request_id, b"r" * 64)


async def new_agents(count):
    store = Store()
    return store, [await store.retrieve(node_id) for node_id in node_ids(count)]


async def answer(agent):
    await agent.poll_opened()
    while True:
        task = await agent.get_task()
        await agent.on_reply(reply_to(task))


def end_all_tasks():
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


class Stopwatch:
    """The CPU time of a block, in nanoseconds."""

    def __enter__(self):
        self._begin = time.process_time_ns()
        return self

    def __exit__(self, *_):
        self.ns = time.process_time_ns() - self._begin


# --- The workloads: each returns its counters ----------------------------------------------------


async def round_trip(outstanding, quick):
    _, agents = await new_agents(1)
    agent = agents[0]
    asyncio.create_task(answer(agent))
    batches = (2_000 if quick else 20_000) // outstanding
    number = 0
    with Stopwatch() as spent:
        for _ in range(batches):
            all_answered = asyncio.Event()
            left = outstanding

            def on_reply(_):
                nonlocal left
                left -= 1
                if left == 0:
                    all_answered.set()

            for _ in range(outstanding):
                number += 1
                await agent.send(request(number), on_reply)
            await all_answered.wait()
    return {"cpu_time": spent.ns / number}


async def memory(count, _):
    ids = node_ids(count)
    gc.collect()
    tracemalloc.start()

    def each():
        return tracemalloc.get_traced_memory()[0] / count

    store = Store()
    for node_id in ids:
        await store.retrieve(node_id)
    idle = each()
    agents = [await store.get(node_id) for node_id in ids]
    handles = each() - idle
    for agent in agents:
        await agent.poll_opened()
        await agent.poll_ended()
    await asyncio.sleep(0)
    waiting = each() - handles - idle
    for agent in agents:
        await agent.poll_opened()
        await asyncio.sleep(0)
    before = each()
    tasks = [asyncio.create_task(answer(agent)) for agent in agents]
    await asyncio.sleep(0)
    parked = idle + each() - before
    tracemalloc.stop()
    del tasks
    return {"cpu_time": 0, "heap_idle": idle, "heap_waiting": waiting, "heap_parked": parked}


async def create(count, _):
    store = Store()
    ids = node_ids(count)
    with Stopwatch() as spent:
        for node_id in ids:
            await store.retrieve(node_id)
    return {"cpu_time": spent.ns / count}


async def lookup(count, _):
    store, _ = await new_agents(count)
    ids = shuffled(node_ids(count))
    with Stopwatch() as spent:
        for node_id in ids:
            await store.get(node_id)
    return {"cpu_time": spent.ns / count}


async def liveness(count, quick):
    _, agents = await new_agents(count)
    agents = shuffled(agents)
    for agent in agents:
        await agent.poll_ended()
    await asyncio.sleep(0)
    cycles = max(count, 2_000 if quick else 20_000)
    with Stopwatch() as spent:
        for i in range(cycles):
            agent = agents[i % count]
            await agent.poll_opened()
            await agent.poll_ended()
            if i % 64 == 63:
                await asyncio.sleep(0)
    return {"cpu_time": spent.ns / cycles}


async def broadcast(count, tracked):
    _, agents = await new_agents(count)
    order = shuffled(agents)
    answered = 0

    def on_reply(_):
        nonlocal answered
        answered += 1

    with Stopwatch() as spent:
        message = request(1) if tracked else Message("", b"w" * 64)
        for agent in agents:
            await agent.send(message, on_reply if tracked else None)
        for i, agent in enumerate(order):
            await agent.poll_opened()
            task = await agent.get_task()
            if task.request_id:
                await agent.on_reply(reply_to(task))
            await agent.poll_ended()
            if i % 64 == 63:
                await asyncio.sleep(0)
    assert answered == (count if tracked else 0)
    return {"cpu_time": spent.ns / count}


async def untracked(count, _):
    return await broadcast(count, tracked=False)


async def tracked(count, _):
    return await broadcast(count, tracked=True)


# A million agents take 4 GB and more, and many minutes; 100,000 tell the same.
WORKLOADS = [
    ("W1", round_trip, [1, 64], [1, 64]),
    ("W2.memory", memory, [10_000], [100_000]),
    ("W2.create", create, [10_000], [100_000]),
    ("W2.lookup", lookup, [10_000], [100_000]),
    ("W3", liveness, [1, 10_000], [1, 10_000]),
    ("W4.untracked", untracked, [10_000], [100_000]),
    ("W4.tracked", tracked, [10_000], [100_000]),
]


async def run(workload, size, quick):
    result = await workload(size, quick)
    end_all_tasks()
    await asyncio.sleep(0)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--filter", default="")
    arguments = parser.parse_args()
    benchmarks = []
    for name, workload, quick_sizes, sizes in WORKLOADS:
        for measured, size in zip(quick_sizes if arguments.quick else sizes, sizes):
            # A smaller number of agents stands for the full one: the cost of each is the same.
            full_name = f"{name}/asyncio/{size}"
            if not re.search(arguments.filter, full_name):
                continue
            counters = asyncio.run(run(workload, measured, arguments.quick))
            gc.collect()
            benchmarks.append(
                {"name": full_name, "run_type": "iteration", "time_unit": "ns", "measured_size": measured}
                | counters
            )
    json.dump({"benchmarks": benchmarks}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
