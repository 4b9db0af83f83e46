#include "cli/command_protocol.h"

#include <gtest/gtest.h>

#include <random>

namespace doppel::cli {
namespace {

std::vector<std::byte> bytes(std::string_view text) {
  const auto view = std::as_bytes(std::span{text});
  return {view.begin(), view.end()};
}

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A terminal in canonical mode with only ^D and ^V special, as its reader sees it: guest/README.md.
struct CanonicalTerminal {
  std::string line;
  std::string read;
  bool quoted = false;
  bool ended = false;
  std::size_t longest = 0;

  void receive(const std::vector<std::byte>& input) {
    for (const std::byte byte : input) {
      const auto c = static_cast<char>(byte);
      ASSERT_FALSE(ended) << "bytes after the end of file";
      if (!quoted && c == 0x16) {
        quoted = true;
      } else if (!quoted && c == 0x04) {
        ended = line.empty();
        push();
      } else {
        quoted = false;
        line += c;
        longest = std::max(longest, line.size());
        if (c == '\n') push();
      }
    }
  }
  void push() {
    read += line;
    line.clear();
  }
};

TEST(InputEncoder, QuotesWhatTheTerminalWouldEat) {
  InputEncoder encoder;
  EXPECT_EQ(text(encoder.encode(bytes(std::string_view("a\x04\x16\n\0\x03", 6)))),
            std::string("a\x16\x04\x16\x16\n\0\x03\x04", 9));
}

TEST(InputEncoder, DeliversAnyBytesInAnyPieces) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    InputEncoder encoder;
    CanonicalTerminal terminal;
    std::string sent;
    for (unsigned pieces = random() % 5; pieces > 0; --pieces) {
      std::string piece(random() % 5000, '\0');
      for (char& c : piece) c = random() % 4 == 0 ? "\n\x04\x16x"[random() % 4] : static_cast<char>(random());
      if (random() % 2 == 0) std::erase(piece, '\n');
      sent += piece;
      terminal.receive(encoder.encode(bytes(piece)));
      EXPECT_EQ(terminal.read, sent) << "everything sent can be read, whole lines or not";
    }
    EXPECT_FALSE(terminal.ended);
    terminal.receive(encoder.finish());
    EXPECT_TRUE(terminal.ended);
    EXPECT_EQ(terminal.read, sent);
    EXPECT_LT(terminal.longest, 4095U);
  }
}

TEST(CommandProgress, FollowsTheControlLines) {
  CommandProgress progress;
  EXPECT_FALSE(progress.ready());
  progress.feed(bytes("rea"));
  EXPECT_FALSE(progress.ready());
  progress.feed(bytes("dy\nexit 4"));
  EXPECT_TRUE(progress.ready());
  EXPECT_FALSE(progress.status());
  progress.feed(bytes("2\n"));
  EXPECT_EQ(progress.status(), 42);
}

TEST(CommandProgress, IgnoresWhatIsNoControlLine) {
  for (const char* line : {"exit\n", "exit x\n", "exit 256\n", "exit -1\n", "exit 1x\n", "already\n", "exit 7"}) {
    CommandProgress progress;
    progress.feed(bytes(line));
    EXPECT_FALSE(progress.ready()) << line;
    EXPECT_FALSE(progress.status()) << line;
  }
  CommandProgress progress;
  progress.feed(bytes(std::string(1'000'000, 'x') + "\nready\n"));
  EXPECT_TRUE(progress.ready());
}

/// The fields of one "newc" entry, read by the kernel's description of the format.
struct Entry {
  std::string name, content;
  unsigned mode = 0;
};
std::vector<Entry> read_archive(const std::string& archive) {
  std::vector<Entry> entries;
  for (std::size_t at = 0; at + 110 <= archive.size();) {
    EXPECT_EQ(archive.substr(at, 6), "070701");
    const auto number = [&](unsigned index) { return std::stoul(archive.substr(at + 6 + 8 * index, 8), nullptr, 16); };
    Entry entry;
    entry.mode = static_cast<unsigned>(number(1));
    entry.name = archive.substr(at + 110, number(11) - 1);
    const std::size_t start = (at + 110 + number(11) + 3) / 4 * 4;
    entry.content = archive.substr(start, number(6));
    at = (start + number(6) + 3) / 4 * 4;
    entries.push_back(entry);
  }
  return entries;
}

TEST(CommandArchive, HoldsTheCommandWhereTheGuestLooks) {
  for (const std::string command : {"", "x", "echo 'a b'\nexit 3", "four"}) {
    const std::string archive = text(make_command_archive(command));
    EXPECT_EQ(archive.size() % 4, 0U);
    const auto entries = read_archive(archive);
    ASSERT_EQ(entries.size(), 3U);
    EXPECT_EQ(entries[0].name, "doppel");
    EXPECT_EQ(entries[0].mode, 0040755U);
    EXPECT_EQ(entries[1].name, "doppel/command");
    EXPECT_EQ(entries[1].mode, 0100644U);
    EXPECT_EQ(entries[1].content, command);
    EXPECT_EQ(entries[2].name, "TRAILER!!!");
  }
}

}  // namespace
}  // namespace doppel::cli
