#include "cli/run_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/option_list.h"

namespace doppel::cli {
namespace {

using testing::HasSubstr;

TEST(ParseDisk, TakesAPathAloneAsItIs) {
  const auto disk = parse_disk("a disk.qcow2");
  ASSERT_TRUE(disk);
  EXPECT_EQ(disk->path, "a disk.qcow2");
  EXPECT_FALSE(disk->options.format);
  EXPECT_FALSE(disk->options.read_only);
  EXPECT_FALSE(disk->snapshot);
  EXPECT_TRUE(disk->options.discard);
  EXPECT_EQ(disk->options.cache, storage::CacheMode::Writeback);
  EXPECT_EQ(disk->serial, "");
}

TEST(ParseDisk, TakesEveryOption) {
  const auto disk = parse_disk("d,format=raw,readonly,snapshot=on,serial=number 1,cache=none,discard=off");
  ASSERT_TRUE(disk) << disk.error().message;
  EXPECT_EQ(disk->path, "d");
  EXPECT_EQ(disk->options.format, "raw");
  EXPECT_TRUE(disk->options.read_only);
  EXPECT_TRUE(disk->snapshot);
  EXPECT_FALSE(disk->options.discard);
  EXPECT_EQ(disk->options.cache, storage::CacheMode::None);
  EXPECT_EQ(disk->serial, "number 1");
  EXPECT_FALSE(parse_disk("d,readonly=off")->options.read_only);
}

TEST(ParseDisk, ADoubledCommaIsOneOfTheFilesName) {
  const auto disk = parse_disk("a,,b,readonly");
  ASSERT_TRUE(disk);
  EXPECT_EQ(disk->path, "a,b");
  EXPECT_TRUE(disk->options.read_only);
  EXPECT_EQ(parse_disk(OptionList::escape("x,y,,z") + ",snapshot")->path, "x,y,,z");
}

TEST(ParseDisk, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "name an image file first"},           {",readonly", "name an image file first"},
      {"d,format=vmdk", "neither raw nor qcow2"}, {"d,format", "neither raw nor qcow2"},
      {"d,readonly=maybe", "neither on nor off"}, {"d,cache=writethrough", "neither writeback nor none"},
      {"d,serial=", "1 to 20 characters"},        {"d,serial=123456789012345678901", "1 to 20 characters"},
      {"d,size=1G", "unknown option size"},       {"d,", "unknown option"},
  };
  for (const auto& [text, expected] : cases) {
    const auto disk = parse_disk(text);
    ASSERT_FALSE(disk) << text;
    EXPECT_THAT(disk.error().message, HasSubstr(expected)) << text;
    EXPECT_THAT(disk.error().message, testing::StartsWith("--disk " + text));
  }
}

}  // namespace
}  // namespace doppel::cli
