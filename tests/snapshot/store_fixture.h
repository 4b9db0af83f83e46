#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/temporary_directory.h"
#include "memory/guest_memory.h"
#include "snapshot/checksum.h"
#include "snapshot/ram_layers.h"
#include "snapshot/store.h"

namespace doppel::test {

/// A store in a directory of its own, and snapshots of a machine "web" that nobody ran.
class StoreFixture : public testing::Test {
 protected:
  static constexpr std::uint64_t kMemory = std::uint64_t{1} << 20;

  static snapshot::Manifest::File put(const UniqueFd& fd, const std::string& text) {
    const auto bytes = std::as_bytes(std::span{text});
    EXPECT_TRUE(write_all(fd.get(), bytes));
    return {bytes.size(), snapshot::crc32c(bytes)};
  }

  /// Fills a draft with RAM that has `value` all over the given pages.
  snapshot::Manifest fill(snapshot::Draft& draft, const std::string& tag, const std::vector<std::uint64_t>& pages,
                          char value, const snapshot::Manifest* parent) {
    snapshot::Manifest manifest;
    manifest.machine = "web";
    manifest.tag = tag;
    manifest.id = "id-" + tag;
    manifest.created = ++time_;
    manifest.memory_bytes = kMemory;
    if (parent != nullptr) manifest.layers = parent->layers;
    snapshot::LayerWriter layer(draft.ram.get(), draft.sums.get(), kMemory, parent == nullptr);
    EXPECT_TRUE(layer.begin());
    const std::vector<std::byte> contents(memory::kPageSize, static_cast<std::byte>(value));
    for (const std::uint64_t page : pages) EXPECT_TRUE(layer.page(page, contents));
    manifest.layers.push_back(*layer.finish());
    manifest.clock = put(draft.clock, "clock");
    manifest.components = put(draft.components, "components of " + tag);
    put(draft.manifest, format_manifest(manifest));
    return manifest;
  }
  snapshot::Manifest make(const std::string& tag, const std::vector<std::uint64_t>& pages, char value,
                          const snapshot::Manifest* parent = nullptr) {
    std::optional<snapshot::Store::Parent> on;
    if (parent != nullptr) on = {parent->machine, parent->tag, parent->id};
    Result<snapshot::Draft> draft = store.begin("web", tag, on);
    EXPECT_TRUE(draft) << draft.error().message;
    snapshot::Manifest manifest = fill(*draft, tag, pages, value, parent);
    EXPECT_TRUE(store.commit(*draft));
    return manifest;
  }
  /// What a machine would find in a page.
  char ram(const std::string& tag, std::uint64_t page) {
    const Result<snapshot::Manifest> manifest = store.find({"web", tag});
    EXPECT_TRUE(manifest) << manifest.error().message;
    const auto saved = store.open(*manifest);
    EXPECT_TRUE(saved) << saved.error().message;
    const auto memory = *memory::GuestMemory::create(kMemory);
    for (const auto& piece : (*saved)->ram) {
      EXPECT_TRUE(memory->map_contents(piece.file->get(), piece.offset, piece.page, piece.bytes));
    }
    char value = 0;
    EXPECT_TRUE(memory->read_value(page * memory::kPageSize + 7, value));
    return value;
  }

  TemporaryDirectory directory;
  const snapshot::Store store{directory.path()};

 private:
  std::int64_t time_ = 0;
};

}  // namespace doppel::test
