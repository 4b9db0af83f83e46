#include "snapshot/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "snapshot/store_fixture.h"

namespace doppel::snapshot {
namespace {

using testing::HasSubstr;

class ArchiveTest : public test::StoreFixture {
 protected:
  void SetUp() override {
    const Manifest s1 = make("s1", {1, 2, 3}, 'a');
    const Manifest s2 = make("s2", {2}, 'b', &s1);
    make("s3", {3}, '\0', &s2);
  }
  Manifest manifest(const std::string& tag) { return *store.find({"web", tag}); }

  const std::string file_ = directory / "file";
};

TEST_F(ArchiveTest, HoldsTheWholeOfALayeredSnapshot) {
  ASSERT_TRUE(export_snapshot(store, manifest("s3"), file_));
  for (const char* tag : {"s1", "s2", "s3"}) ASSERT_TRUE(store.remove("web", tag));
  const Result<Reference> imported = import_snapshot(store, file_, std::nullopt);
  ASSERT_TRUE(imported) << imported.error().message;
  EXPECT_EQ(imported->machine + ":" + imported->tag, "web:s3");
  EXPECT_EQ(ram("s3", 1), 'a');
  EXPECT_EQ(ram("s3", 2), 'b');
  EXPECT_EQ(ram("s3", 3), 0);
  EXPECT_EQ(manifest("s3").layers.size(), 1U);
  EXPECT_TRUE(store.verify(manifest("s3")));
}

TEST_F(ArchiveTest, TakesAnotherNameAndSparesWhatIsThere) {
  ASSERT_TRUE(export_snapshot(store, manifest("s1"), file_));
  EXPECT_FALSE(import_snapshot(store, file_, std::nullopt)) << "web:s1 is there";
  ASSERT_TRUE(import_snapshot(store, file_, Reference{"web", "again"}));
  EXPECT_EQ(ram("again", 1), 'a');
  ASSERT_TRUE(import_snapshot(store, file_, Reference{"other", ""}));
  EXPECT_TRUE(store.find({"other", "s1"}));
}

TEST_F(ArchiveTest, DamageIsFoundOnBothWays) {
  ASSERT_TRUE(export_snapshot(store, manifest("s1"), file_));
  const auto size = std::filesystem::file_size(file_);
  unsigned harmless = 0;
  for (std::uintmax_t at = 0; at < size; ++at) {
    std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const auto was = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(was ^ 1));
    file.close();
    // zstd has bits that mean nothing.
    if (import_snapshot(store, file_, Reference{"web", "same"})) {
      EXPECT_EQ(ram("same", 1), 'a') << "byte " << at;
      EXPECT_EQ(ram("same", 4), 0);
      EXPECT_TRUE(store.remove("web", "same"));
      ++harmless;
    }
    std::fstream mended(file_, std::ios::in | std::ios::out | std::ios::binary);
    mended.seekp(static_cast<std::streamoff>(at));
    mended.put(was);
  }
  EXPECT_LT(harmless, 5U);
  std::filesystem::resize_file(file_, size - 3);
  EXPECT_FALSE(import_snapshot(store, file_, Reference{"web", "bad"})) << "cut short";

  std::fstream ram_file(store.directory("web", "s1") + "/ram.0", std::ios::in | std::ios::out | std::ios::binary);
  ram_file.seekp(5000);
  ram_file.put('!');
  ram_file.close();
  std::filesystem::remove(file_);
  const Result<void> exported = export_snapshot(store, manifest("s1"), file_);
  ASSERT_FALSE(exported);
  EXPECT_THAT(exported.error().message, HasSubstr("damaged"));
  EXPECT_FALSE(std::filesystem::exists(file_)) << "nothing is better than half";
}

}  // namespace
}  // namespace doppel::snapshot
