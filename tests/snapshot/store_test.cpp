#include "snapshot/store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "snapshot/store_fixture.h"

namespace doppel::snapshot {
namespace {

using memory::kPageSize;
using testing::HasSubstr;

class StoreTest : public test::StoreFixture {
 protected:
  std::size_t entries() const {
    const auto all = std::filesystem::directory_iterator(directory / "web");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }
  void damage(const std::string& tag, const std::string& file, std::streamoff offset) {
    std::fstream stream(store.directory("web", tag) + "/" + file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(offset);
    stream.put('!');
  }
};

TEST_F(StoreTest, KeepsWhatWasCommitted) {
  make("s1", {1, 2, 9}, 'a');
  const Result<std::vector<Manifest>> all = store.list();
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 1U);
  EXPECT_EQ(all->front().tag, "s1");
  EXPECT_EQ(ram("s1", 2), 'a');
  EXPECT_EQ(ram("s1", 3), 0);
  const auto saved = store.open(all->front());
  ASSERT_TRUE(saved);
  EXPECT_EQ((*saved)->state.components.size(), std::string("components of s1").size());
  EXPECT_TRUE(store.verify(all->front()));
}

TEST_F(StoreTest, ADraftIsSeenByNobodyAndGoesWithItsMaker) {
  {
    Result<Draft> draft = store.begin("web", "s1", std::nullopt);
    ASSERT_TRUE(draft);
    EXPECT_TRUE(store.list()->empty());
    EXPECT_FALSE(store.find({"web", "s1"}));
    EXPECT_EQ(entries(), 1U);
  }
  EXPECT_EQ(entries(), 0U);
}

TEST_F(StoreTest, TheDraftOfADeadProcessIsRemovedByTheNext) {
  const pid_t child = ::fork();
  if (child == 0) {
    const Result<Draft> draft = store.begin("web", "s1", std::nullopt);
    ::kill(::getpid(), SIGKILL);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ASSERT_EQ(entries(), 1U);
  Result<Draft> ours = store.begin("web", "s1", std::nullopt);
  ASSERT_TRUE(ours);
  EXPECT_EQ(entries(), 1U);
  Result<Draft> another = store.begin("web", "s2", std::nullopt);
  EXPECT_EQ(entries(), 2U) << "a living maker's stays";
}

TEST_F(StoreTest, ATagIsGivenOnce) {
  make("s1", {1}, 'a');
  const Result<Draft> again = store.begin("web", "s1", std::nullopt);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("already"));

  Result<Draft> one = store.begin("web", "s2", std::nullopt);
  Result<Draft> other = store.begin("web", "s2", std::nullopt);
  ASSERT_TRUE(one && other);
  fill(*one, "s2", {1}, 'b', nullptr);
  fill(*other, "s2", {1}, 'c', nullptr);
  EXPECT_TRUE(store.commit(*one));
  EXPECT_FALSE(store.commit(*other));
  EXPECT_EQ(ram("s2", 1), 'b');
}

TEST_F(StoreTest, RefusesNamesThatLeadElsewhere) {
  for (const char* name : {"", "..", ".hidden", "a/b", "/etc"}) {
    EXPECT_FALSE(store.begin("web", name, std::nullopt)) << name;
    EXPECT_FALSE(store.begin(name, "s1", std::nullopt)) << name;
    EXPECT_FALSE(store.remove("web", name)) << name;
    EXPECT_FALSE(Reference::parse(std::string("web:") + name)) << name;
  }
}

TEST_F(StoreTest, LayersLieOverEachOther) {
  const Manifest s1 = make("s1", {1, 2}, 'a');
  const Manifest s2 = make("s2", {2, 3}, 'b', &s1);
  make("s3", {3}, '\0', &s2);
  EXPECT_EQ(ram("s1", 2), 'a');
  EXPECT_EQ(ram("s2", 1), 'a');
  EXPECT_EQ(ram("s2", 2), 'b');
  EXPECT_EQ(ram("s2", 3), 'b');
  EXPECT_EQ(ram("s3", 3), 0) << "a page that has become zero again";
  EXPECT_EQ(ram("s3", 2), 'b');
}

TEST_F(StoreTest, WhatCameAfterwardsStaysWhole) {
  const Manifest s1 = make("s1", {1, 2}, 'a');
  make("s2", {2}, 'b', &s1);
  ASSERT_TRUE(store.remove("web", "s1"));
  EXPECT_FALSE(store.find({"web", "s1"}));
  EXPECT_EQ(entries(), 1U);
  EXPECT_EQ(ram("s2", 1), 'a');
  EXPECT_TRUE(store.verify(*store.find({"web", "s2"})));
}

TEST_F(StoreTest, AnotherSnapshotOfTheParentsNameIsNotItsParent) {
  const Manifest s1 = make("s1", {1}, 'a');
  ASSERT_TRUE(store.remove("web", "s1"));
  make("s1", {1}, 'x');
  Result<Draft> draft = store.begin("web", "s2", Store::Parent{"web", "s1", "another"});
  ASSERT_TRUE(draft);
  EXPECT_EQ(draft->layers_below, 0U);
}

TEST_F(StoreTest, TheNewestIsMeantWithoutATag) {
  make("b", {1}, 'b');
  make("a", {1}, 'a');
  EXPECT_EQ(store.find({"web", ""})->tag, "a");
  const Result<Manifest> none = store.find({"other", ""});
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("no snapshot of a machine named other"));
}

TEST_F(StoreTest, DamageIsFound) {
  const Manifest s1 = make("s1", {1, 2}, 'a');
  damage("s1", "components", 2);
  const auto opened = store.open(s1);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("damaged"));

  const Manifest s2 = make("s2", {1, 2}, 'a');
  damage("s2", "ram.0", 2 * kPageSize + 5);
  EXPECT_TRUE(store.open(s2)) << "RAM is not read";
  const Result<void> verified = store.verify(s2);
  ASSERT_FALSE(verified);
  EXPECT_THAT(verified.error().message, HasSubstr("0x2000"));

  const Manifest s3 = make("s3", {1, 2}, 'a');
  std::filesystem::resize_file(store.directory("web", "s3") + "/ram.0", 4096);
  EXPECT_FALSE(store.open(s3)) << "a machine would die of pages past the end";
}

TEST_F(StoreTest, APackedLayerIsUnpackedByWhoNeedsIt) {
  const Manifest first = make("s1", {1, 2, 3}, 'a');
  const std::string layer = store.directory("web", "s1") + "/" + file_name::ram(0);
  ASSERT_TRUE(store.pack(first));
  EXPECT_FALSE(std::filesystem::exists(layer));
  EXPECT_EQ(store.find({"web", "s1"})->stored_bytes, std::filesystem::file_size(layer + ".zst"));
  // One that is made after it stands on it all the same.
  const Manifest second = make("s2", {2}, 'b', &first);
  EXPECT_EQ(ram("s2", 1), 'a');
  EXPECT_EQ(ram("s2", 2), 'b');
  EXPECT_FALSE(std::filesystem::exists(layer)) << "that was the other's";
  EXPECT_EQ(ram("s1", 2), 'a');
  EXPECT_TRUE(std::filesystem::exists(layer));
  EXPECT_FALSE(std::filesystem::exists(layer + ".zst"));
  EXPECT_TRUE(store.verify(*store.find({"web", "s1"})));
}

TEST_F(StoreTest, ADamagedPackedLayerIsRefused) {
  const Manifest manifest = make("s1", {1, 2, 3}, 'a');
  ASSERT_TRUE(store.pack(manifest));
  const std::string packed = store.directory("web", "s1") + "/" + file_name::ram(0) + ".zst";
  const auto size = std::filesystem::file_size(packed);
  unsigned harmless = 0;
  for (std::uintmax_t at = 5; at < size; at += 7) {
    std::filesystem::copy_file(packed, directory / "good", std::filesystem::copy_options::overwrite_existing);
    std::fstream file(packed, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const auto was = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(was ^ 0x10));
    file.close();
    // zstd has bits that mean nothing.
    if (store.open(manifest)) {
      EXPECT_TRUE(store.verify(manifest)) << at;
      std::filesystem::remove(store.directory("web", "s1") + "/" + file_name::ram(0));
      ++harmless;
    }
    std::filesystem::copy_file(directory / "good", packed, std::filesystem::copy_options::overwrite_existing);
  }
  EXPECT_LT(harmless, 3U);
  std::filesystem::resize_file(packed, size - 4);
  const auto opened = store.open(manifest);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, testing::HasSubstr("ram.0.zst"));
}

}  // namespace
}  // namespace doppel::snapshot
