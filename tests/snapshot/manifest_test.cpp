#include "snapshot/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "snapshot/checksum.h"

namespace doppel::snapshot {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Manifest sample() {
  Manifest manifest;
  manifest.machine = "web";
  manifest.tag = "s2";
  manifest.id = "0123456789abcdef";
  manifest.ancestors = {"s1"};
  manifest.created = 1'700'000'000;
  manifest.version = "0.1.0";
  manifest.cpus = 2;
  manifest.memory_bytes = std::uint64_t{64} << 20;
  manifest.vsock = true;
  manifest.kernel = "/boot/vmlinuz";
  manifest.initrds = {"/boot/initrd"};
  manifest.command_line = "console=ttyS0";
  manifest.networks = {{"user", true, {2, 0, 0, 0, 0, 7}, {"127.0.0.1:80:80/tcp"}, {}}};
  manifest.clock = {17, 1};
  manifest.components = {100, 2};
  manifest.layers = {{65536, 3}, {65536, 4}};
  manifest.stored_bytes = 4096;
  return manifest;
}

/// A manifest whose contents were changed by somebody who knows how to calculate a checksum.
std::string forged(const std::function<void(json&)>& change) {
  json document = json::parse(format_manifest(sample()));
  change(document["snapshot"]);
  const std::string body = document["snapshot"].dump();
  document["crc32c"] = crc32c(std::as_bytes(std::span{body}));
  return document.dump();
}

TEST(Manifest, ReadsWhatItWrites) {
  const Result<Manifest> read = parse_manifest(format_manifest(sample()));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(format_manifest(*read), format_manifest(sample()));
  EXPECT_EQ(read->networks[0].mac[5], 7);
  EXPECT_EQ(read->layers.size(), 2U);
}

TEST(Manifest, ASharedDirectoryMakesItOneThatAnOlderDoppelRefuses) {
  Manifest manifest = sample();
  manifest.shares = {{"share0", "/srv", "/mnt", true}};
  const std::string text = format_manifest(manifest);
  EXPECT_EQ(json::parse(text)["version"], 3);
  const Result<Manifest> read = parse_manifest(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(format_manifest(*read), text);
  EXPECT_EQ(read->shares[0].guest_path, "/mnt");
  manifest.shares[0].path = "srv";
  EXPECT_FALSE(parse_manifest(format_manifest(manifest)));
}

TEST(Manifest, RefusesWhatIsDamaged) {
  std::string text = format_manifest(sample());
  text.replace(text.find("\"web\""), 5, "\"wet\"");
  const Result<Manifest> read = parse_manifest(text);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("checksum"));
  EXPECT_FALSE(parse_manifest(""));
  EXPECT_FALSE(parse_manifest("{}"));
  EXPECT_FALSE(parse_manifest(std::string(100'000, '[')));
}

TEST(Manifest, RefusesANewerFormatByName) {
  json document = json::parse(format_manifest(sample()));
  document["version"] = 4;
  const Result<Manifest> read = parse_manifest(document.dump());
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("use a newer one"));
}

TEST(Manifest, RefusesWhatCannotBe) {
  const std::pair<const char*, json> changes[] = {{"machine", "../web"},
                                                  {"tag", ""},
                                                  {"tag", 7},
                                                  {"ancestors", {"/etc"}},
                                                  {"memory_bytes", 4097},
                                                  {"memory_bytes", -1},
                                                  {"cpus", "two"},
                                                  {"layers", json::array()},
                                                  {"clock", {{"bytes", 1}}},
                                                  {"vsock", "yes"},
                                                  {"networks", {7}},
                                                  {"initrds", {1}},
                                                  {"id", "/"},
                                                  {"created", "monday"},
                                                  {"networks", {{{"kind", "wifi"}}}}};
  for (const auto& change : changes) {
    const auto& name = change.first;
    const auto& value = change.second;
    const Result<Manifest> read = parse_manifest(forged([&](json& body) { body[name] = value; }));
    EXPECT_FALSE(read) << name << " = " << value.dump();
    EXPECT_FALSE(parse_manifest(forged([&](json& body) { body.erase(name); }))) << "without " << name;
  }
  EXPECT_TRUE(parse_manifest(forged([](json&) {})));
}

}  // namespace
}  // namespace doppel::snapshot
