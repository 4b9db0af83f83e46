#include "cli/seed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/bits.h"
#include "base/fd.h"
#include "base/temporary_directory.h"

namespace doppel::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr std::size_t kSector = 2048;

/// The files of an image's root directory, by their Rock Ridge names.
std::map<std::string, std::string> files_of(const std::vector<std::byte>& image) {
  std::map<std::string, std::string> files;
  const auto text = [&image](std::size_t at, std::size_t size) {
    return std::string(reinterpret_cast<const char*>(&image.at(at)), size);
  };
  EXPECT_EQ(text(16 * kSector + 1, 5), "CD001");
  EXPECT_EQ(image.size(), load_le<std::uint32_t>(&image[16 * kSector + 80]) * kSector);
  const std::size_t root = load_le<std::uint32_t>(&image[16 * kSector + 158]) * kSector;
  for (std::size_t at = root; image[at] != std::byte{0}; at += static_cast<std::size_t>(image[at])) {
    const std::string record = text(at, static_cast<std::size_t>(image[at]));
    const std::size_t name = record.find("NM");
    if (name == std::string::npos) continue;
    const std::size_t start = load_le<std::uint32_t>(&image[at + 2]) * kSector;
    files[record.substr(name + 5, static_cast<std::size_t>(record[name + 2]) - 5)] =
        text(start, load_le<std::uint32_t>(&image[at + 10]));
  }
  return files;
}

std::map<std::string, std::string> seed_of(const RunOptions& options) {
  const auto disk = make_seed(options);
  EXPECT_TRUE(disk && *disk) << disk.error().message;
  EXPECT_TRUE((*disk)->options.read_only);
  const auto bytes = read_file((*disk)->path);
  EXPECT_TRUE(bytes);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(&bytes->at(16 * kSector + 40)), 7), "cidata ");
  return files_of(*bytes);
}

TEST(IsoImage, KeepsFilesOfAnyLengthUnderTheirNames) {
  const std::string large(100'000, 'x');
  const auto files = files_of(make_iso_image("label", {{"user-data", large}, {"empty", ""}, {"meta-data", "m"}}));
  EXPECT_EQ(files, (std::map<std::string, std::string>{{"user-data", large}, {"empty", ""}, {"meta-data", "m"}}));
}

TEST(Seed, IsOnlyThereWhenAskedFor) {
  const auto none = make_seed({});
  EXPECT_TRUE(none && !*none);
}

TEST(Seed, SaysNameKeysAndUserData) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "keys") << "# mine\nssh-ed25519 AAAA me@here\n\nssh-rsa BBBB other\n";
  std::ofstream(directory / "data") << "#!/bin/sh\necho hello\n";
  RunOptions options;
  options.hostname = "web-1.example";
  options.ssh_keys = {directory / "keys"};
  auto files = seed_of(options);
  EXPECT_THAT(files["user-data"], testing::StartsWith("#cloud-config\n"));
  const json meta = json::parse(files["meta-data"]);
  EXPECT_EQ(meta["local-hostname"], "web-1.example");
  EXPECT_EQ(meta["public-keys"], (json{"ssh-ed25519 AAAA me@here", "ssh-rsa BBBB other"}));
  EXPECT_EQ(files["authorized_keys"], "ssh-ed25519 AAAA me@here\nssh-rsa BBBB other\n");
  EXPECT_THAT(meta["instance-id"].get<std::string>(), testing::StartsWith("doppel-"));

  options.user_data = directory / "data";
  files = seed_of(options);
  EXPECT_EQ(files["user-data"], "#!/bin/sh\necho hello\n");
  EXPECT_NE(json::parse(files["meta-data"])["instance-id"], meta["instance-id"]) << "it would not be looked at";
}

TEST(Seed, SaysWhatIsWrong) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "id") << "-----BEGIN OPENSSH PRIVATE KEY-----\n";
  RunOptions options;
  options.ssh_keys = {directory / "id"};
  EXPECT_THAT(make_seed(options).error().message, HasSubstr("id.pub"));
  options = {};
  options.user_data = directory / "nothing";
  EXPECT_THAT(make_seed(options).error().message, HasSubstr("--user-data"));
  for (const char* const name : {"a b", "-a", "a/b", "ä"}) {
    options = {};
    options.hostname = name;
    EXPECT_THAT(make_seed(options).error().message, HasSubstr("--hostname")) << name;
  }
}

}  // namespace
}  // namespace doppel::cli
