"""The least that reading the load can cost: aiokafka's getmany and orjson.loads, and nothing done with it.

Run as a process of its own, so that its time and memory are its own; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson
from aiokafka import AIOKafkaConsumer


async def read(bootstrap: str, topics: list[str], records: int) -> dict[str, float]:
    """Read and decode so many records; seconds of wall and CPU time from the first fetch on."""
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    seen = 0
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        while seen < records:
            for found in (await consumer.getmany(timeout_ms=1000)).values():
                for record in found:
                    orjson.loads(record.value)
                seen += len(found)
    finally:
        await consumer.stop()
    return {"records": seen, "seconds": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


if __name__ == "__main__":
    bootstrap, count, *topics = sys.argv[1:]
    print(orjson.dumps(asyncio.run(read(bootstrap, topics, int(count)))).decode())
