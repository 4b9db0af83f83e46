#include "engine/dbt/code_writers.h"

#include <gtest/gtest.h>

namespace doppel::engine::dbt {
namespace {

using memory::GuestPhysical;
using memory::kPageSize;

struct Listener : CodeWriters::Peer {
  void drop_code(GuestPhysical page) override { dropped.push_back(page); }
  void drop_writes(GuestPhysical page) override { unwritable.push_back(page); }
  x86::Attention attention;
  std::vector<GuestPhysical> dropped, unwritable;
};

class CodeWritersTest : public ::testing::Test {
 protected:
  static constexpr GuestPhysical kCode = 3 * kPageSize;

  std::unique_ptr<memory::GuestMemory> memory = *memory::GuestMemory::create(1 << 20);
  CodeWriters writers{*memory};
  Listener reader, other;

  CodeWritersTest() {
    writers.add(reader, reader.attention);
    writers.add(other, other.attention);
  }
  void read(Listener& who) {
    memory->code().add_code(kCode / kPageSize, 0, 16);
    writers.protect(who, kCode);
  }
  void store() { memory->code().written(kCode / kPageSize, 8, 1); }
  void serve() {
    writers.serve(reader);
    writers.serve(other);
  }
};

TEST_F(CodeWritersTest, StoresToCodeAreToldToThoseThatReadIt) {
  read(reader);
  store();
  EXPECT_TRUE(reader.attention.any());
  EXPECT_FALSE(other.attention.any());
  serve();
  EXPECT_EQ(reader.dropped, std::vector{kCode});
  EXPECT_TRUE(other.dropped.empty());
}

TEST_F(CodeWritersTest, EachTimeItIsReadAgain) {
  for (std::size_t times = 1; times <= 3; ++times) {
    read(reader);
    read(other);
    read(reader);
    store();
    store();
    serve();
    EXPECT_EQ(reader.dropped.size(), times);
    EXPECT_EQ(other.dropped.size(), times);
  }
}

TEST_F(CodeWritersTest, NobodyKeepsTheRightToWriteToWhatIsRead) {
  EXPECT_TRUE(writers.may_write(other, kCode));
  read(reader);
  EXPECT_FALSE(writers.may_write(other, kCode));
  serve();
  EXPECT_EQ(other.unwritable, std::vector{kCode});
}

}  // namespace
}  // namespace doppel::engine::dbt
