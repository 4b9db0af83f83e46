#include "debug/packet_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace doppel::debug {
namespace {

class PacketStreamTest : public ::testing::Test {
 protected:
  std::vector<std::string> packets;
  unsigned interrupts = 0;
  std::string wire;
  PacketStream stream{{[this](std::string_view packet) { packets.emplace_back(packet); }, [this] { ++interrupts; },
                       [this](std::string_view bytes) { wire += bytes; }}};
};

TEST_F(PacketStreamTest, AcknowledgesAnIntactPacket) {
  stream.receive("$OK#9a");
  EXPECT_EQ(packets, std::vector<std::string>{"OK"});
  EXPECT_EQ(wire, "+");
}

TEST_F(PacketStreamTest, AsksForABrokenPacketAgain) {
  stream.receive("$OK#9b");
  EXPECT_TRUE(packets.empty());
  EXPECT_EQ(wire, "-");
}

TEST_F(PacketStreamTest, TakesBytesCutAnywhere) {
  for (const char byte : std::string{"+$OK#9a\x03"}) stream.receive({&byte, 1});
  EXPECT_EQ(packets, std::vector<std::string>{"OK"});
  EXPECT_EQ(interrupts, 1U);
}

TEST_F(PacketStreamTest, AByte03InsideAPacketIsData) {
  stream.stop_acknowledging();
  stream.receive("$X\x03#00");
  EXPECT_EQ(packets, std::vector<std::string>{"X\x03"});
  EXPECT_EQ(interrupts, 0U);
}

TEST_F(PacketStreamTest, UnescapesAndEscapes) {
  stream.stop_acknowledging();
  stream.receive("$a}\x03}]b#00");
  EXPECT_EQ(packets, std::vector<std::string>{"a#}b"});
  stream.send("#$}*");
  EXPECT_EQ(wire, "$}\x03}\x04}]}\x0a#62");
}

TEST_F(PacketStreamTest, RepeatsWhatWasNotUnderstood) {
  stream.send("OK");
  stream.receive("-");
  EXPECT_EQ(wire, "$OK#9a$OK#9a");
  stream.receive("+");
  EXPECT_EQ(wire, "$OK#9a$OK#9a");
}

TEST_F(PacketStreamTest, WithoutAcknowledgementsChecksNothingAndSendsNone) {
  stream.stop_acknowledging();
  stream.receive("$OK#00");
  EXPECT_EQ(packets, std::vector<std::string>{"OK"});
  stream.receive("-");
  EXPECT_EQ(wire, "");
}

TEST_F(PacketStreamTest, ADollarSignBeginsAnew) {
  stream.stop_acknowledging();
  stream.receive("$half$OK#9a");
  EXPECT_EQ(packets, std::vector<std::string>{"OK"});
}

TEST_F(PacketStreamTest, AnEndlessPacketIsRefusedAndNotKept) {
  stream.stop_acknowledging();
  stream.receive("$" + std::string(PacketStream::kMaxPacket + 1, 'm') + "#00");
  EXPECT_EQ(packets, std::vector<std::string>{""});
  stream.receive("$OK#00");
  EXPECT_EQ(packets.back(), "OK");
}

}  // namespace
}  // namespace doppel::debug
