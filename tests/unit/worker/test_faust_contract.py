"""The Faust internals that `streams.worker.transport` depends on. If one fails, reread that file before upgrading."""

import inspect

import aiokafka
import faust
from faust.agents.actor import Actor
from faust.agents.agent import Agent
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.topics import Topic
from faust.transport import consumer as base
from faust.transport.base import Transport
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver
from mode.supervisors import SupervisorStrategy


def source(of: object) -> str:
    return inspect.getsource(of)  # type: ignore[arg-type]  # functions and classes


def test_version_is_one_that_was_read() -> None:
    assert faust.__version__.startswith("0.15.")


def test_polled_records_come_from_getmany_by_partition_and_go_through_to_message() -> None:
    text = source(base.Consumer.getmany)
    assert "records, active_partitions = await self._wait_next_records(timeout)" in text
    assert "records_it = self.scheduler.iterate(records)" in text
    assert "yield tp, to_message(tp, record)" in text
    assert "await self._getmany(" in source(base.Consumer._wait_next_records)


def test_flow_and_generation_are_looked_at_before_each_message() -> None:
    text = source(base.Consumer.getmany)
    assert "if not self.flow_active:\n                    break" in text
    assert "if new_generation_id != generation_id:" in text


def test_commits_ask_new_offset_for_every_partition_in_acked() -> None:
    assert "for tp in self._acked" in source(base.Consumer._filter_tps_with_pending_acks)
    assert "offset = self._new_offset(tp)" in source(base.Consumer._filter_committable_offsets)
    assert "self._should_commit(tp, offset)" in source(base.Consumer._filter_committable_offsets)


def test_gaps_are_added_by_add_gap_and_read_offset_goes_by_the_message() -> None:
    text = source(base.Consumer._drain_messages)
    assert "await self._add_gap(tp, r_offset + 1, offset)" in text
    assert "set_read_offset(tp, offset)" in text
    assert "if r_offset is None or offset >= r_offset:" in text


def test_tables_do_nothing_else_at_the_start_than_ours() -> None:
    assert source(TableManager.on_start).endswith(
        """await self.sleep(1.0)
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
"""
    )


def test_recovery_may_seek_offsets_that_a_rebalance_has_set_to_none() -> None:
    assert "offsets.setdefault(tp, None)" in source(Recovery._add)
    assert "await consumer.seek_wait(new_offsets)" in source(Recovery._seek_offsets)


def test_stopped_actors_are_kept_by_their_supervisor_and_by_beacons() -> None:
    assert "self.supervisor.add(aref)" in source(Agent._start_one_supervised)
    assert "discard" not in source(Agent.on_isolated_partitions_revoked)
    assert "await self.stop()" in source(Actor.on_isolated_partition_revoked)
    assert "self._services.remove(service)" in source(SupervisorStrategy.discard)
    assert "beacon=self.beacon" in source(Agent.stream)


def test_changelog_records_and_ours_are_sent_by_the_transports_producer() -> None:
    assert "await producer.send(" in source(Topic.publish_message)
    assert "self.transport.create_producer(" in source(faust.App._new_producer)
    assert "return self.Producer(self" in source(Transport.create_producer)


def test_messages_are_acked_through_the_consumers_ack() -> None:
    from faust.types.tuples import ConsumerMessage

    assert "consumer.ack(self)" in source(ConsumerMessage.on_final_ack)


def test_noack_stream_leaves_the_ack_to_the_agent() -> None:
    assert "enable_acks=False" in source(Stream.noack)


def test_revocation_pops_the_books_after_our_own_wait() -> None:
    assert "self._acked.pop(tp, None)" in source(base.Consumer.on_partitions_revoked)
    assert issubclass(driver.Consumer, base.ThreadDelegateConsumer)


def test_agents_with_isolated_partitions_have_one_actor_per_partition() -> None:
    assert "self._actor_by_partition[tp] = aref" in source(Agent._maybe_start_isolated)


def test_wait_of_a_fetch_is_the_clients_own_until_it_starts() -> None:
    from aiokafka import AIOKafkaConsumer

    assert "fetch_max_wait_ms=1500" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "AIOKafkaConsumerThread(self, loop=self.loop, beacon=self.beacon)" in source(
        driver.Consumer._new_consumer_thread
    )
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source(AIOKafkaConsumer.start)


def test_queues_are_cleared_when_flow_resumes() -> None:
    from mode.utils.queues import FlowControlEvent

    assert "self.clear()" in source(FlowControlEvent.resume)


def test_rebalance_ends_after_the_seek_and_the_clearing_of_queues() -> None:
    text = source(Recovery._resume_streams)
    steps = [
        "consumer.resume_partitions(",
        "consumer.perform_seek()",
        "app.flow_control.resume()",
        "app.on_rebalance_end()",
    ]
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    assert "self.rebalancing = True" in source(faust.App.on_rebalance_start)
    assert "self.rebalancing = False" in source(faust.App.on_rebalance_end)


def test_folders_are_made_in_one_method() -> None:
    assert "mkdir" in source(faust.App._create_directories)


def test_conductor_decodes_with_the_topics_schema() -> None:
    assert "chan.decode(message, propagate=True)" in source(inspect.getmodule(Conductor))


def test_seek_to_committed_leaves_partitions_alone_that_have_no_offset() -> None:
    assert "if offset and offset > 0:" in source(aiokafka.AIOKafkaConsumer.seek_to_committed)
    assert "self._committed_offset.update(committed_offsets)" in source(base.Consumer.perform_seek)


def test_isolation_is_set_where_the_thread_makes_its_consumer() -> None:
    assert "isolation_level=isolation_level" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "AIOKafkaConsumerThread(self, loop=self.loop" in source(driver.Consumer._new_consumer_thread)
    assert "isolation_level=self._isolation_level" in source(aiokafka.AIOKafkaConsumer.start)
