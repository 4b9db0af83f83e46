#include "cli/run_share.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/temporary_directory.h"

namespace doppel::cli {
namespace {

using testing::HasSubstr;

TEST(ParseShare, TakesTheTwoDirectories) {
  const test::TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "a:b");
  const auto share = parse_share(directory / "a:b" + ":/mnt/src", 3);
  ASSERT_TRUE(share) << share.error().message;
  EXPECT_EQ(share->path, std::filesystem::canonical(directory / "a:b"));
  EXPECT_EQ(share->guest_path, "/mnt/src");
  EXPECT_EQ(share->tag, "share3");
  EXPECT_FALSE(share->read_only);
  EXPECT_EQ(share_argument(*share), " doppel.share=share3:/mnt/src");
  EXPECT_FALSE(parse_share(directory.path() + ":/x:rw", 0)->read_only);
  const auto read_only = parse_share(directory.path() + ":/x:ro", 0);
  ASSERT_TRUE(read_only);
  EXPECT_TRUE(read_only->read_only);
  EXPECT_EQ(share_argument(*read_only), " doppel.share=share0:/x:ro");
}

TEST(ParseShare, SaysWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "HOSTDIR:GUESTDIR"},           {"/tmp", "HOSTDIR:GUESTDIR"},      {":/mnt", "HOSTDIR:GUESTDIR"},
      {"/tmp:", "absolute path"},         {"/tmp:mnt", "absolute path"},     {"/tmp:/a b", "absolute path"},
      {"/tmp:/a quiet", "absolute path"}, {"/no/such:/mnt", "No such file"}, {"/dev/null:/mnt", "not a directory"},
  };
  for (const auto& [text, expected] : cases) {
    const auto share = parse_share(text, 0);
    ASSERT_FALSE(share) << text;
    EXPECT_THAT(share.error().message, HasSubstr(expected));
  }
}

}  // namespace
}  // namespace doppel::cli
