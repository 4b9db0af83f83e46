#include "debug/gdb_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "debug/fake_target.h"
#include "debug/hex.h"
#include "debug/packet_stream.h"

namespace doppel::debug {
namespace {

using test::FakeTarget;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class GdbSessionTest : public ::testing::Test {
 protected:
  FakeTarget target{2};
  std::vector<std::string> sent;
  bool acknowledges = true;
  GdbSession session{
      target, {[this](std::string_view packet) { sent.emplace_back(packet); }, [this] { acknowledges = false; }}};

  /// The reply to a packet; "(none)" when there is none yet.
  std::string ask(std::string_view packet) {
    sent.clear();
    session.handle_packet(packet);
    return sent.empty() ? "(none)" : sent.back();
  }
  std::string monitor(std::string_view command) {
    const auto bytes = bytes_from_hex(ask("qRcmd," + to_hex(command)));
    if (!bytes) return "(no text)";
    return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
  }
  static constexpr const char* kRam = "ffff800000000000";
};

TEST_F(GdbSessionTest, ADebuggerFindsTheMachineStopped) {
  EXPECT_TRUE(target.stopped);
  EXPECT_EQ(ask("?"), "T02thread:1;");
  EXPECT_EQ(ask("qAttached"), "1");
}

TEST_F(GdbSessionTest, WhatIsNotUnderstoodGetsAnEmptyReply) {
  EXPECT_EQ(ask("vMustReplyEmpty"), "");
  EXPECT_EQ(ask(""), "");
  EXPECT_EQ(ask("QNonStop:1"), "");
}

TEST_F(GdbSessionTest, SaysWhatItCanDo) {
  EXPECT_THAT(ask("qSupported:multiprocess+;swbreak+"), HasSubstr("QStartNoAckMode+"));
  EXPECT_EQ(ask("vCont?"), "vCont;c;C;s;S");
}

TEST_F(GdbSessionTest, AcknowledgementsEndAfterTheReply) {
  EXPECT_EQ(ask("QStartNoAckMode"), "OK");
  EXPECT_FALSE(acknowledges);
}

TEST_F(GdbSessionTest, TheDescriptionComesInPieces) {
  std::string xml, piece;
  do {
    piece = ask("qXfer:features:read:target.xml:" + to_hex(std::uint64_t{xml.size()}) + ",100");
    ASSERT_THAT(piece, ::testing::AnyOf(StartsWith("m"), StartsWith("l")));
    xml += piece.substr(1);
  } while (piece[0] == 'm');
  EXPECT_THAT(xml, HasSubstr("<architecture>i386:x86-64</architecture>"));
  EXPECT_THAT(xml, ::testing::EndsWith("</target>"));
  EXPECT_EQ(ask("qXfer:features:read:target.xml:ffffffffffffffff,10"), "l");
  EXPECT_EQ(ask("qXfer:features:read:other.xml:0,10"), "E00");
}

TEST_F(GdbSessionTest, ThreadsAreVcpus) {
  EXPECT_EQ(ask("qfThreadInfo"), "m1,2");
  EXPECT_EQ(ask("qsThreadInfo"), "l");
  EXPECT_EQ(ask("T2"), "OK");
  EXPECT_EQ(ask("T3"), "E16");
  EXPECT_EQ(ask("qC"), "QC1");
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_EQ(ask("qC"), "QC2");
  EXPECT_EQ(ask("Hg0"), "OK");
  EXPECT_EQ(ask("qC"), "QC2") << "any thread will do";
  EXPECT_EQ(ask("Hg3"), "E16");
  EXPECT_EQ(ask("H"), "E16");
}

TEST_F(GdbSessionTest, RegistersAreThoseOfTheSelectedThread) {
  target.states[1].gpr[x86::kRax] = 0x1122;
  EXPECT_EQ(ask("p0"), "0000000000000000");
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_EQ(ask("p0"), "2211000000000000");
  EXPECT_THAT(ask("g"), StartsWith("2211000000000000"));
  EXPECT_EQ(ask("P0=8877665544332211"), "OK");
  EXPECT_EQ(target.states[1].gpr[x86::kRax], 0x1122'3344'5566'7788U);
  EXPECT_EQ(target.states[0].gpr[x86::kRax], 0U);
}

TEST_F(GdbSessionTest, RegisterRequestsOutOfRangeAreErrors) {
  EXPECT_EQ(ask("pffff"), "E16");
  EXPECT_EQ(ask("p"), "E16");
  EXPECT_EQ(ask("P0=00"), "E01");
  EXPECT_EQ(ask("P0"), "E01");
  EXPECT_EQ(ask("G00"), "E16");
}

TEST_F(GdbSessionTest, WritesAllRegistersAtOnce) {
  target.states[0].gpr[x86::kRbx] = 5;
  const std::string all = ask("g");
  target.states[0].gpr[x86::kRbx] = 6;
  EXPECT_EQ(ask("G" + all), "OK");
  EXPECT_EQ(target.states[0].gpr[x86::kRbx], 5U);
}

TEST_F(GdbSessionTest, ReadsAndWritesMemory) {
  EXPECT_EQ(ask(std::string{"M"} + kRam + ",2:a55a"), "OK");
  EXPECT_EQ(ask(std::string{"m"} + kRam + ",4"), "a55a0000");
  EXPECT_EQ(ask(std::string{"X"} + kRam + ",2:zz"), "OK");
  EXPECT_EQ(ask(std::string{"m"} + kRam + ",2"), "7a7a");
  EXPECT_EQ(ask(std::string{"X"} + kRam + ",0:"), "OK");
}

TEST_F(GdbSessionTest, MemoryThatIsNotThereIsAnError) {
  EXPECT_EQ(ask("m0,4"), "E0e");
  EXPECT_EQ(ask("M0,1:00"), "E0e");
  EXPECT_EQ(ask(std::string{"M"} + kRam + ",2:00"), "E16") << "length and data disagree";
  EXPECT_EQ(ask("m0"), "E16");
  EXPECT_EQ(ask("mffffffffffffffff,ffffffffffffffff"), "E0e");
}

TEST_F(GdbSessionTest, AReadStopsAtTheFirstHole) {
  EXPECT_EQ(ask("mffff800000001ff0,20"), std::string(32, '0'));
}

TEST_F(GdbSessionTest, AReadIsNeverLongerThanAPacket) {
  EXPECT_LE(ask(std::string{"m"} + kRam + ",ffffffff").size(), PacketStream::kMaxPacket);
}

TEST_F(GdbSessionTest, BreakpointsGoWithTheMachine) {
  EXPECT_EQ(ask("Z0,ffffffff81000000,1"), "OK");
  EXPECT_EQ(ask("Z0,ffffffff81000000,1"), "OK") << "twice is once";
  EXPECT_EQ(ask("Z2,1000,8"), "OK");
  EXPECT_EQ(ask("vCont;c"), "(none)");
  EXPECT_THAT(target.last_points, ElementsAre(StopPoint{StopPoint::Kind::SoftwareBreakpoint, 0xFFFF'FFFF'8100'0000, 1},
                                              StopPoint{StopPoint::Kind::WriteWatch, 0x1000, 8}));
  session.target_stopped({Stop::Reason::Breakpoint, 1, 0xFFFF'FFFF'8100'0000});
  EXPECT_EQ(sent.back(), "T05thread:2;swbreak:;");
  EXPECT_EQ(ask("qC"), "QC2") << "the thread that stopped is selected";
  EXPECT_EQ(ask("z0,ffffffff81000000,1"), "OK");
  EXPECT_EQ(ask("z2,1000,8"), "OK");
  ask("c");
  EXPECT_TRUE(target.last_points.empty());
}

TEST_F(GdbSessionTest, WatchpointsTellTheirKind) {
  for (const auto& [packet, name] : {std::pair{"Z2,1000,4", "watch"}, {"Z3,2000,4", "rwatch"}, {"Z4,3000,4", "awatch"}})
    EXPECT_EQ(ask(packet), "OK") << name;
  for (const auto& [address, reply] : {std::pair{0x1000U, "T05thread:1;watch:1000;"},
                                       {0x2000U, "T05thread:1;rwatch:2000;"},
                                       {0x3000U, "T05thread:1;awatch:3000;"}}) {
    ask("c");
    session.target_stopped({Stop::Reason::Watchpoint, 0, address});
    EXPECT_EQ(sent.back(), reply);
  }
}

TEST_F(GdbSessionTest, ImpossiblePointsAreRefused) {
  EXPECT_EQ(ask("Z2,1000,0"), "E1c");
  EXPECT_EQ(ask("Z2,ffffffffffffffff,8"), "E1c");
  EXPECT_EQ(ask("Z2,0,ffffffff"), "E1c");
  EXPECT_EQ(ask("Z5,0,1"), "");
  EXPECT_EQ(ask("Z0"), "E16");
  for (unsigned i = 0; i < StopPoints::kLimit; ++i) ASSERT_EQ(ask("Z0," + to_hex(std::uint64_t{i}) + ",1"), "OK");
  EXPECT_EQ(ask("Z0,ffff0,1"), "E1c");
}

TEST_F(GdbSessionTest, TheLeftmostActionOfAThreadCounts) {
  ask("vCont;s:2;c");
  EXPECT_THAT(target.last_actions, ElementsAre(ResumeAction::Continue, ResumeAction::Step));
  session.target_stopped({Stop::Reason::Stepped, 1, 0});
  EXPECT_EQ(sent.back(), "T05thread:2;");
  ask("vCont;s:1");
  EXPECT_THAT(target.last_actions, ElementsAre(ResumeAction::Step, ResumeAction::Stay));
  session.target_stopped({Stop::Reason::Stepped, 0, 0});
  ask("vCont;c:-1");
  EXPECT_THAT(target.last_actions, ElementsAre(ResumeAction::Continue, ResumeAction::Continue));
}

TEST_F(GdbSessionTest, BadActionsMoveNothing) {
  for (const char* packet : {"vCont;x", "vCont;c:9", "vCont;;", "vCont;s:zz"}) EXPECT_EQ(ask(packet), "E16") << packet;
  EXPECT_EQ(target.resumes, 0U);
}

TEST_F(GdbSessionTest, CtrlCStopsARunningMachineOnly) {
  sent.clear();
  session.interrupt();
  EXPECT_TRUE(sent.empty());
  ask("c");
  EXPECT_FALSE(target.stopped);
  session.interrupt();
  EXPECT_TRUE(target.stopped);
  EXPECT_EQ(sent.back(), "T02thread:1;");
}

TEST_F(GdbSessionTest, NothingIsReadFromARunningMachine) {
  ask("c");
  EXPECT_EQ(ask("g"), "E01");
  EXPECT_EQ(ask(std::string{"m"} + kRam + ",4"), "E01");
  EXPECT_EQ(ask("c"), "E01");
}

TEST_F(GdbSessionTest, AWatchpointOfAnotherVcpuAtTheSameTimeIsReportedNext) {
  ask("Z2,1000,4");
  ask("c");
  session.target_stopped({Stop::Reason::Breakpoint, 0, 0});
  session.target_stopped({Stop::Reason::Watchpoint, 1, 0x1000});
  EXPECT_EQ(ask("c"), "T05thread:2;watch:1000;");
  EXPECT_EQ(target.resumes, 1U);
}

TEST_F(GdbSessionTest, DetachingLeavesTheGuestRunningWithoutBreakpoints) {
  ask("Z0,1000,1");
  EXPECT_EQ(ask("D"), "OK");
  EXPECT_EQ(session.state(), GdbSession::State::Detached);
  EXPECT_FALSE(target.stopped);
  EXPECT_TRUE(target.last_points.empty());
}

TEST_F(GdbSessionTest, KillEndsIt) {
  EXPECT_EQ(ask("vKill;1"), "OK");
  EXPECT_EQ(target.kills, 1U);
  EXPECT_EQ(session.state(), GdbSession::State::Killed);
}

TEST(GdbSessionEnd, AVanishedDebuggerLetsTheGuestGo) {
  FakeTarget target{1};
  {
    GdbSession session{target, {[](std::string_view) {}, [] {}}};
  }
  EXPECT_FALSE(target.stopped);
  EXPECT_EQ(target.resumes, 1U);
}

TEST_F(GdbSessionTest, TheEndOfTheMachineIsAnExit) {
  ask("c");
  session.target_ended(3);
  EXPECT_EQ(sent.back(), "W03");
}

TEST_F(GdbSessionTest, ATripleFaultIsReportedWhereItHappened) {
  ask("c");
  session.target_stopped({Stop::Reason::Shutdown, 1, 0});
  EXPECT_EQ(sent.back(), "T06thread:2;");
}

TEST_F(GdbSessionTest, MonitorCommands) {
  target.states[0].rip = 0xABCD;
  EXPECT_THAT(monitor("info registers"), HasSubstr("RIP 000000000000abcd"));
  EXPECT_THAT(monitor("info cpus"), HasSubstr("CPU 1, running, 64-bit mode"));
  EXPECT_THAT(monitor("help"), HasSubstr("info registers"));
  EXPECT_THAT(monitor("nonsense"), HasSubstr("help"));
  monitor("reset");
  EXPECT_EQ(target.resets, 1U);
  monitor("quit");
  EXPECT_EQ(target.kills, 1U);
  EXPECT_EQ(ask("qRcmd,x"), "E16");
}

TEST_F(GdbSessionTest, ThreadsHaveDescriptions) {
  EXPECT_EQ(ask("qThreadExtraInfo,2"), to_hex("CPU 1, running, 64-bit mode, CPL 0"));
}

}  // namespace
}  // namespace doppel::debug
