#include "report.hpp"

#include <doctest/doctest.h>

#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "baselines.hpp"
#include "fedagent/error.hpp"
#include "file.hpp"
#include "hospital_work.hpp"
#include "journal.hpp"
#include "test_support.hpp"

namespace {

using namespace federated;
using namespace std::chrono_literals;
using fedagent::NodeActiveStatus;
using federated::testing::complaint_of;
using federated::testing::ScratchDirectory;

NodeSummary node(std::string name, fedagent::NodeOutcome outcome,
                 boost::system::error_code error = {}) {
  NodeSummary summary;
  summary.node = std::move(name);
  summary.outcome = outcome;
  summary.error = error;
  return summary;
}

}  // namespace

TEST_CASE("progress: one line says who answered and what became of the others") {
  using fedagent::NodeOutcome;
  RoundSummary round;
  round.round = 8;
  round.rounds = 30;
  round.accuracy = 0.9766;
  round.end = fedagent::RoundEnd::quorum;
  round.took = 800ms;
  round.nodes = {node("a", NodeOutcome::reply),
                 node("b", NodeOutcome::deadline_passed, fedagent::errc::deadline_passed),
                 node("c", NodeOutcome::disconnected, fedagent::errc::disconnected),
                 node("d", NodeOutcome::error_reply),
                 node("e", NodeOutcome::reply),
                 node("f", NodeOutcome::withdrawn, fedagent::errc::round_ended),
                 node("g", NodeOutcome::not_sent, fedagent::errc::disconnected),
                 node("h", NodeOutcome::not_sent, fedagent::errc::unknown_node),
                 node("i", NodeOutcome::expired, fedagent::errc::expired),
                 node("j", NodeOutcome::failed, fedagent::errc::retries_exhausted),
                 node("k", NodeOutcome::reply)};
  round.nodes.back().fault = "nonsense";
  round.nodes[0].bytes_sent = 3000;
  round.nodes[1].bytes_sent = 700;
  round.nodes[0].bytes_received = 500;
  round.nodes[4].bytes_received = 400;
  CHECK(round.answered() == 2);
  CHECK(progress_line(round) ==
        "round  8/30  97.7 %  0.80 s quorum    3.7 kB out 0.9 kB in  answered: a e  "
        "deadline passed: b  withdrawn: f  DISCONNECTED: c g  expired: i  failed: j  not sent: h  "
        "unusable: d k");
  round.model_changed = false;
  CHECK(progress_line(round).ends_with(
      "unusable: d k  (too few answers: the model stays as it was)"));
}

TEST_CASE("progress: the demo finds the round in the lines that it steers by") {
  RoundSummary round;
  round.round = 7;
  round.rounds = 30;
  CHECK(round_of(progress_line(round)) == 7U);
  round.round = 123;
  CHECK(round_of(progress_line(round)) == 123U);
  CHECK(round_of(task_taken_line("hospital-2", 9, 53)) == 9U);
  CHECK(!round_of("researcher: waits for 5 hospitals"));
  CHECK(!round_of("round"));
  CHECK(!round_of("round trip"));
  CHECK(!round_of("round "));
  CHECK(listening_endpoint_of(listening_line("127.0.0.1:80")) == "127.0.0.1:80");
  CHECK(!listening_endpoint_of("researcher: waits for 5 hospitals"));
}

TEST_CASE("progress: a late reply is told, and is nothing that the demo steers by") {
  LateSummary late{"a", 7, 2, 1200ms, false};
  CHECK(late_line(late) == "a answers round-7 too late: 1.20 s, 2 rounds on");
  CHECK(!round_of(late_line(late)));
  late.staleness = 1;
  late.unusable = true;
  CHECK(late_line(late) == "a answers round-7 too late: 1.20 s, 1 round on, and not usable");
  CHECK(!round_of(late_line(late)));
}

TEST_CASE("report: the tables of the rounds, the hospitals and the late replies") {
  using fedagent::NodeOutcome;
  using fedagent::RoundEnd;
  const auto answer = [](const char* name, fedagent::Duration queued, fedagent::Duration leased,
                         fedagent::Duration working) {
    auto row = node(name, NodeOutcome::reply);
    row.took = queued + leased + working;
    row.queued = queued;
    row.leased = leased;
    row.working = working;
    row.attempts = 1;
    row.bytes_sent = 800;
    row.bytes_received = 300;
    return row;
  };
  Result result;
  CHECK(late_table(result).empty());
  for (std::uint32_t i = 1; i <= 3; ++i) {
    RoundSummary round;
    round.round = i;
    round.took = i * 100ms;
    round.end = i < 3 ? RoundEnd::complete : RoundEnd::quorum;
    round.model_changed = i != 2;
    round.nodes = {answer("a", i * 10ms, i * 20ms, i * 1ms), answer("b", 5ms, 5ms, 90ms)};
    result.rounds.push_back(round);
  }
  auto& late = result.rounds[2].nodes[1];
  late = node("b", NodeOutcome::withdrawn, fedagent::errc::round_ended);
  late.attempts = 2;
  late.bytes_sent = 1600;
  result.rounds[1].nodes[1] = node("b", NodeOutcome::not_sent, fedagent::errc::disconnected);
  CHECK(hospitals_table(result) ==
        "  in 3 rounds  answered  withdrawn  DISCONNECTED    took  queued  leased  working  "
        "attempts     out      in\n"
        "  -----------  --------  ---------  ------------  ------  ------  ------  -------  "
        "--------  ------  ------\n"
        "  a                   3          0             0   62 ms   20 ms   40 ms     2 ms  "
        "       3  2.4 kB  0.9 kB\n"
        "  b                   1          1             1  100 ms    5 ms    5 ms    90 ms  "
        "       3  2.4 kB  0.3 kB\n");
  CHECK(rounds_table(result) ==
        "  rounds ended by  rounds  shortest  longest  model as it was\n"
        "  ---------------  ------  --------  -------  ---------------\n"
        "  complete              2    0.10 s   0.20 s                1\n"
        "  quorum                1    0.30 s   0.30 s                0\n");

  result.late = {{"b", 3, 1, 1200ms, false}, {"b", 2, 1, 1300ms, false}, {"a", 1, 2, 900ms, true}};
  result.late_missed = 4;
  CHECK(late_table(result) ==
        "  late replies, not averaged  rounds on  replies  longest\n"
        "  --------------------------  ---------  -------  -------\n"
        "  a                                   2        1   0.90 s\n"
        "  b                                   1        2   1.30 s\n"
        "  dropped unread                               4\n");

  // A hospital that never answered has no times.
  result.rounds.erase(result.rounds.begin(), result.rounds.begin() + 2);
  CHECK(hospitals_table(result).find(
            "  b                   0          1                          ") != std::string::npos);
}

TEST_CASE("report: a good run has no faults; each thing that is wrong is named") {
  Result result;
  result.accuracy = 0.95;
  const Baselines baselines{{"pooled", 398, 0.96}, {{"hospital-1", 26, 0.9}}};
  fedagent::Counters counters;
  counters.accepted = 10;
  counters.confirmed = 7;
  counters.dropped[static_cast<std::size_t>(fedagent::errc::deadline_passed) - 1] = 2;
  counters.queued = 1;
  counters.requests = 10;
  counters.replied = 7;
  counters.failed[static_cast<std::size_t>(fedagent::errc::deadline_passed) - 1] = 2;
  counters.open_requests = 1;
  CHECK(faults_of(result, baselines, counters).empty());
  CHECK(conservation_line(counters) == "10 accepted = 7 confirmed + 2 dropped + 1 pending");
  CHECK(messages_table(counters) ==
        "  messages to hospitals\n"
        "  -----------------------------------------------  --\n"
        "  accepted                                         10\n"
        "  confirmed                                         7\n"
        "  dropped: the deadline of the request has passed   2\n"
        "  pending                                           1\n"
        "  redelivered                                       0\n"
        "  refused, the node being DISCONNECTED              0\n"
        "  replies that nobody waited for                    0\n");

  result.accuracy = 0.94;  // exactly 2 points below is allowed
  CHECK(faults_of(result, baselines, counters).empty());
  result.accuracy = 0.939;
  CHECK(
      faults_of(result, baselines, counters) ==
      std::vector<std::string>{
          "the federated accuracy of 93.9 % is more than 2 points below the pooled one of 96.0 %"});
  CHECK(faults_of(result, std::nullopt, counters).empty());

  result.accuracy = 0.96;
  counters.confirmed = 6;
  CHECK(faults_of(result, baselines, counters)[0] ==
        "messages went astray: 10 accepted is not 6 confirmed + 2 dropped + 1 pending");
  counters.confirmed = 7;
  counters.replied = 8;
  CHECK(faults_of(result, baselines, counters) ==
        std::vector<std::string>{"10 requests, but 8 replies + 2 errors + 1 open"});
}

TEST_CASE("report: the table of accuracies, with baselines and without") {
  Result result;
  result.accuracy = 0.97;
  result.rows = 398;
  result.on_own_rows = {{"hospital-1", 1.0}};
  const Baselines baselines{{"pooled", 398, 0.96},
                            {{"hospital-1", 26, 0.9}, {"hospital-2", 53, 0.92}}};
  CHECK(accuracy_table(result, baselines, 171) ==
        "  model                trained on  right of 171 test rows  federated model on own rows\n"
        "  -------------------  ----------  ----------------------  ---------------------------\n"
        "  federated              398 rows                  97.0 %\n"
        "  pooled in one place    398 rows                  96.0 %\n"
        "  hospital-1 alone        26 rows                  90.0 %                      100.0 %\n"
        "  hospital-2 alone        53 rows                  92.0 %\n");
  CHECK(accuracy_table(result, std::nullopt, 171).find("  hospital-1 ") != std::string::npos);
}

TEST_CASE("baselines: written and read back; bad files are refused with line and reason") {
  const ScratchDirectory directory;
  const auto path = directory.file("baselines.csv");
  write_baselines(path, {{"pooled", 398, 0.96}, {{"a,b", 26, 1.0}}});
  const auto back = read_baselines(path);
  CHECK(back.pooled.rows == 398);
  CHECK(back.pooled.accuracy == 0.96);
  REQUIRE(back.alone.size() == 1);
  CHECK(back.alone[0].name == "a,b");

  const auto complaint = [&path](const char* text) {
    write_file(path, text);
    return complaint_of<DatasetError>([&path] { read_baselines(path); }).substr(path.size());
  };
  CHECK(complaint("") == ": is empty or cannot be read");
  for (const auto* line : {"pooled", "pooled,3", "pooled,x,0.5", "pooled,3,", "pooled,3,1.5",
                           "pooled,3,nan", ",", ",,"}) {
    CHECK(complaint(line) ==
          fmt::format(", line 1: 'name,rows,accuracy' expected, found '{}'", line));
  }
  CHECK(complaint("pooled,3,0.5\n\n") == ", line 2: 'name,rows,accuracy' expected, found ''");
}

TEST_CASE("journal: changes become spans, the nodes by name") {
  const Journal::Clock::time_point start{1h};
  Journal journal(start);
  journal.status("b", NodeActiveStatus::active, start + 1s);
  journal.status("a", NodeActiveStatus::active, start + 2s);
  journal.status("b", NodeActiveStatus::waiting, start + 3s);
  journal.round_began(start + 4s);
  journal.mark("b", "killed", start + 5s);
  journal.mark_in_round("b", "late", 1, 2s);
  journal.mark_in_round("b", "of no round", 0, 2s);
  journal.mark_in_round("b", "of no round", 2, 2s);
  const auto timeline = journal.timeline(start + 10s);
  CHECK(timeline.end == 10.0);
  CHECK(timeline.rounds == std::vector<double>{4.0});
  REQUIRE(timeline.bands.size() == 2);
  CHECK(timeline.bands[0].name == "a");
  REQUIRE(timeline.bands[1].spans.size() == 2);
  CHECK(timeline.bands[1].spans[0].begin == 1.0);
  CHECK(timeline.bands[1].spans[0].end == 3.0);
  CHECK(timeline.bands[1].spans[1].end == 10.0);
  CHECK(timeline.bands[1].spans[1].status == NodeActiveStatus::waiting);
  REQUIRE(timeline.marks.size() == 2);
  CHECK(timeline.marks[0].band == 1);
  CHECK(timeline.marks[0].time == 5.0);
  CHECK(timeline.marks[1].band == 1);
  CHECK(timeline.marks[1].time == 6.0);
  CHECK(timeline.marks[1].text == "late");
}

TEST_CASE("hospital: what it cannot do is refused with the reason, and about the same round") {
  const Dataset rows{{"a", "b"}, 1, {1.0, 2.0}, {0, 1}};
  const auto refusal = [&rows](const std::string& bytes) {
    const auto reply = do_task(rows, bytes);
    const auto* const content = std::get_if<Refusal>(&reply.content);
    return content != nullptr ? content->reason : "(no refusal)";
  };
  CHECK(refusal("") == "payload: 0 bytes that do not begin with FEDM");
  CHECK(refusal(encode({1, FinalReply{}})) == "this is nothing that a hospital does");
  CHECK(refusal(encode({1, TrainTask{{}, {{1, 2}, {1, 2}}, {1, 2, 3}}})) ==
        "the model is for 2 features, the rows here have 1");
  CHECK(do_task(rows, encode({9, FinalReply{}})).round == 9);

  const auto reply = do_task(rows, encode({4, StatisticsTask{}}));
  CHECK(reply.round == 4);
  CHECK(std::get<StatisticsReply>(reply.content).statistics.count == 2);
}

TEST_CASE("arguments: values in both forms, defaults in the help") {
  std::string data = "data.csv";
  Endpoint listen{"127.0.0.1", 0};
  std::uint64_t rounds = 30;
  std::chrono::milliseconds deadline{800};
  Arguments arguments("researcher", "trains");
  arguments.add("--data", "FILE", "The test rows", data);
  arguments.required();
  arguments.add("--listen", "HOST:PORT", "Where", listen);
  arguments.add("--rounds", "N", "How many rounds", rounds, 1, 1000);
  arguments.add("--round-deadline", "SECONDS", "How long a round lasts", deadline, 0.01, 60);

  CHECK(arguments.help() ==
        "researcher: trains\n\n"
        "  --data FILE\n      The test rows (needed)\n"
        "  --listen HOST:PORT\n      Where (default: 127.0.0.1:0)\n"
        "  --rounds N\n      How many rounds (default: 30)\n"
        "  --round-deadline SECONDS\n      How long a round lasts (default: 0.8)\n"
        "  --help\n      This text.\n");
  CHECK(!arguments.parse({"--help"}));
  CHECK(arguments.parse(
      {"--data", "x", "--rounds=7", "--round-deadline", "1.25", "--listen=[::1]:80"}));
  CHECK(data == "x");
  CHECK(rounds == 7);
  CHECK(deadline == 1250ms);
  CHECK(listen.host == "::1");
  CHECK(listen.port == 80);

  const auto complaint = [&arguments](const std::vector<std::string>& words) {
    return complaint_of<ArgumentError>([&] { arguments.parse(words); });
  };
  CHECK(complaint({}) == "--data FILE is needed; researcher --help says more");
  CHECK(complaint({"--round", "1"}) == "there is no option --round; researcher --help lists them");
  CHECK(complaint({"data.csv"}) ==
        "an option expected, found 'data.csv'; researcher --help lists them");
  CHECK(complaint({"--data"}) == "--data needs a value: FILE");
  CHECK(complaint({"--data="}) == "--data: a value that is not empty expected");
  CHECK(complaint({"--data=x", "--data=y"}) == "--data was given twice");
  CHECK(complaint({"--rounds", "0"}) ==
        "--rounds: a whole number from 1 to 1000 expected, found '0'");
  CHECK(complaint({"--rounds", "3x"}) ==
        "--rounds: a whole number from 1 to 1000 expected, found '3x'");
  CHECK(complaint({"--rounds=-1"}) ==
        "--rounds: a whole number from 1 to 1000 expected, found '-1'");
  CHECK(complaint({"--round-deadline=nan"}) ==
        "--round-deadline: seconds from 0.01 to 60 expected, found 'nan'");
  CHECK(complaint({"--listen", "here"}) == "--listen: HOST:PORT expected, found 'here'");
  CHECK(complaint({"--listen", ":80"}) ==
        "--listen: a host before the colon expected, found ':80'");
  CHECK(complaint({"--listen", "::1:80"}) ==
        "--listen: an IPv6 address is written [ADDRESS]:PORT, found '::1:80'");
  CHECK(complaint({"--listen", "host:70000"}) ==
        "--listen: a port from 0 to 65535 expected, found '70000'");
  CHECK(complaint({"--listen", "host:"}) == "--listen: a port from 0 to 65535 expected, found ''");
}

TEST_CASE("node ids: only plain characters are admitted") {
  CHECK(plain_node_id("hospital-2.north_A"));
  CHECK(plain_node_id(std::string(64, 'x')));
  CHECK(!plain_node_id(std::string(65, 'x')));
  CHECK(!plain_node_id(""));
  CHECK(!plain_node_id("a b"));
  CHECK(!plain_node_id("a\x1b[31m"));
  CHECK(!plain_node_id("\xc3\xa4"));
}
