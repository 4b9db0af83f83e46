// doppel image, held against qemu-img.
#include "cli/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "base/temporary_directory.h"
#include "cli/app.h"
#include "storage/tools.h"

namespace doppel::cli {
namespace {

using nlohmann::json;
using test::must_run;
using testing::HasSubstr;

struct Finished {
  int status;
  std::string output, errors;
};

Finished doppel_image(const std::vector<std::string>& arguments) {
  std::vector<const char*> words{"doppel", "image"};
  for (const std::string& argument : arguments) words.push_back(argument.c_str());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = run_program(static_cast<int>(words.size()), words.data());
  std::fflush(stdout);
  return {status, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

class ImageCommand : public testing::Test {
 protected:
  void expect_success(const std::vector<std::string>& arguments) {
    const Finished done = doppel_image(arguments);
    EXPECT_EQ(done.status, 0) << done.errors;
    EXPECT_EQ(done.errors, "");
  }
  void expect_same(const std::string& format_a, const std::string& a, const std::string& format_b,
                   const std::string& b) {
    EXPECT_NO_THROW(must_run({"qemu-img", "compare", "-f", format_a, "-F", format_b, a, b}));
  }
  void expect_clean(const std::string& image) {
    EXPECT_NO_THROW(must_run({"qemu-img", "check", "-f", "qcow2", image}));
  }

  /// Compressible, incompressible and empty parts.
  std::string source(std::size_t size = 10'000'384, unsigned seed = 1) {
    std::string path = dir_ / ("source" + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::string bytes(size, '\0');
    for (std::size_t at = 0; at < size; at += 50'000) {
      const auto kind = random() % 3;
      for (std::size_t i = at; kind != 0 && i < std::min(size, at + 50'000); ++i) {
        bytes[i] = kind == 1 ? static_cast<char>(random()) : static_cast<char>(at / 1000);
      }
    }
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  test::TemporaryDirectory dir_;
};

TEST_F(ImageCommand, ErrorsAreOneLineThatSaysWhatToDo) {
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", dir_ / "disk", "1M"});
  must_run({"qemu-img", "create", "-q", "-f", "vmdk", dir_ / "vmdk", "1M"});
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=" + (dir_ / "data"), dir_ / "external", "1M"});
  // AES instead of LUKS: making a LUKS header times the processor, which qemu-img gives up on busy machines.
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x", "-o",
            "encrypt.format=aes,encrypt.key-secret=s", dir_ / "aes", "1M"});
  struct Case {
    int status;
    std::string expected;
    std::vector<std::string> arguments;
  };
  const std::vector<Case> cases{
      {2, "no command given; see doppel image --help", {}},
      {2, "unknown command dance; see doppel image --help", {"dance"}},
      {2, "unknown option --dance; see doppel image info --help", {"info", "--dance", "x"}},
      {2, "FILE is required; see doppel image create --help", {"create"}},
      {1, "No such file", {"info", dir_ / "nothing"}},
      {1, "say how large", {"create", dir_ / "new"}},
      {1, "is not a size", {"create", dir_ / "new", "many"}},
      {1, "there are raw and qcow2", {"create", "-f", "vdi", dir_ / "new", "1M"}},
      {1, "power of two", {"create", "-f", "qcow2", "-o", "cluster_size=3k", dir_ / "new", "1M"}},
      {1, "no option shape", {"create", "-f", "qcow2", "-o", "shape=round", dir_ / "new", "1M"}},
      {1, "-F raw or -F qcow2", {"create", "-f", "qcow2", "-b", dir_ / "disk", dir_ / "new"}},
      {1, "add --shrink", {"resize", dir_ / "disk", "512K"}},
      {1, "vmdk", {"info", dir_ / "vmdk"}},
      {1, "external file", {"info", dir_ / "external"}},
      {1, "encrypted", {"info", dir_ / "aes"}},
      {1, "no backing file", {"commit", dir_ / "disk"}},
  };
  for (const Case& c : cases) {
    const Finished done = doppel_image(c.arguments);
    EXPECT_EQ(done.status, c.status) << c.expected;
    EXPECT_THAT(done.errors, HasSubstr(c.expected));
    EXPECT_EQ(std::ranges::count(done.errors, '\n'), 1) << done.errors;
    EXPECT_EQ(done.output, "");
  }
  EXPECT_FALSE(std::filesystem::exists(dir_ / "new"));
}

TEST_F(ImageCommand, CreatesWhatQemuFindsGood) {
  for (const char* options :
       {"compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=2M", "extended_l2=on", "lazy_refcounts=on",
        "refcount_bits=1", "refcount_bits=64,cluster_size=512", "compression_type=zstd", "preallocation=metadata",
        "preallocation=falloc", "preallocation=full,cluster_size=4k", "preallocation=metadata,extended_l2=on"}) {
    SCOPED_TRACE(options);
    expect_success({"create", "-q", "-f", "qcow2", "-o", options, dir_ / "ours", "33M"});
    must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, dir_ / "theirs", "33M"});
    expect_clean(dir_ / "ours");
    expect_same("qcow2", dir_ / "ours", "qcow2", dir_ / "theirs");
    json ours = json::parse(must_run({"qemu-img", "info", "--output=json", dir_ / "ours"}));
    json theirs = json::parse(must_run({"qemu-img", "info", "--output=json", dir_ / "theirs"}));
    for (const char* key : {"filename", "actual-size"}) ours.erase(key), theirs.erase(key);
    EXPECT_EQ(ours, theirs);
    json told = json::parse(doppel_image({"info", "--json", dir_ / "ours"}).output);
    for (const char* key : {"filename", "actual-size"}) told.erase(key);
    EXPECT_EQ(told["format-specific"], theirs["format-specific"]);
    EXPECT_EQ(told["virtual-size"], theirs["virtual-size"]);
  }
}

TEST_F(ImageCommand, ConvertsBothWays) {
  const std::string raw = source();
  for (const std::vector<std::string>& how :
       std::vector<std::vector<std::string>>{{},
                                             {"-c"},
                                             {"-c", "-o", "compression_type=zstd"},
                                             {"-c", "-o", "cluster_size=512"},
                                             {"-c", "-o", "cluster_size=4k,refcount_bits=1"},
                                             {"-c", "-o", "cluster_size=2M,compression_type=zstd"},
                                             {"-o", "extended_l2=on,cluster_size=128k"},
                                             {"-c", "-o", "extended_l2=on"},
                                             {"-o", "compat=0.10"},
                                             {"-S", "0"}}) {
    std::vector<std::string> arguments{"convert", "-O", "qcow2"};
    arguments.insert(arguments.end(), how.begin(), how.end());
    arguments.insert(arguments.end(), {raw, dir_ / "out.qcow2"});
    SCOPED_TRACE(testing::PrintToString(how));
    expect_success(arguments);
    expect_clean(dir_ / "out.qcow2");
    expect_same("raw", raw, "qcow2", dir_ / "out.qcow2");
    expect_success({"convert", "-f", "qcow2", dir_ / "out.qcow2", dir_ / "back.raw"});
    EXPECT_EQ(test::file_bytes(dir_ / "back.raw"), test::file_bytes(raw));
    must_run({"qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, dir_ / "theirs.qcow2"});
    expect_success({"convert", "-O", "raw", dir_ / "theirs.qcow2", dir_ / "back.raw"});
    EXPECT_EQ(test::file_bytes(dir_ / "back.raw"), test::file_bytes(raw));
  }
  // Onto a backing file: only what differs is there.
  expect_success({"convert", "-O", "qcow2", "-B", raw, "-F", "raw", dir_ / "out.qcow2", dir_ / "thin.qcow2"});
  expect_same("raw", raw, "qcow2", dir_ / "thin.qcow2");
  EXPECT_LT(std::filesystem::file_size(dir_ / "thin.qcow2"), 1'000'000U);
  // Into what is there.
  must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 7 0 8M", dir_ / "out.qcow2"});
  expect_success({"convert", "-n", "-O", "qcow2", raw, dir_ / "out.qcow2"});
  expect_same("raw", raw, "qcow2", dir_ / "out.qcow2");
  expect_clean(dir_ / "out.qcow2");
}

TEST_F(ImageCommand, MapsAsQemuDoes) {
  const std::string raw = source();
  must_run({"qemu-img", "convert", "-O", "qcow2", raw, dir_ / "base.qcow2"});
  must_run(
      {"qemu-img", "create", "-q", "-f", "qcow2", "-b", dir_ / "base.qcow2", "-F", "qcow2", dir_ / "top.qcow2", "20M"});
  must_run({"qemu-io", "-f", "qcow2", "-c", "write 1M 300k", "-c", "write -z 3M 1M", "-c", "write 12M 64k",
            dir_ / "top.qcow2"});
  for (const std::string& image : {dir_ / "base.qcow2", dir_ / "top.qcow2"}) {
    const json ours = json::parse(doppel_image({"map", "--output=json", image}).output);
    const json theirs = json::parse(must_run({"qemu-img", "map", "--output=json", image}));
    EXPECT_EQ(ours, theirs) << json::diff(ours, theirs).dump();
  }
}

TEST_F(ImageCommand, ChecksAsQemuDoes) {
  const std::string raw = source();
  const std::string image = dir_ / "disk.qcow2";
  must_run({"qemu-img", "convert", "-O", "qcow2", raw, image});
  const auto compare = [&](int status) {
    const Finished ours = doppel_image({"check", "--json", image});
    const test::Ran theirs = test::run_tool({"qemu-img", "check", "--output=json", image});
    EXPECT_EQ(ours.status, theirs.status);
    EXPECT_EQ(ours.status, status);
    const json a = json::parse(ours.output);
    const json b = json::parse(theirs.output.substr(theirs.output.find('{')), nullptr, false);
    for (const char* key : {"total-clusters", "allocated-clusters", "image-end-offset", "leaks", "corruptions"}) {
      EXPECT_EQ(a.value(key, 0), b.value(key, 0)) << key;
    }
  };
  const auto poke = [&](std::uint64_t at, std::uint8_t value) {
    std::fstream file(image, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(value));
  };
  compare(0);
  const std::uint64_t block = 0x20000;  // the first refcount block, where qemu-img puts it
  // A cluster that nobody uses, but in the middle of the file.
  const json map = json::parse(must_run({"qemu-img", "map", "--output=json", image}));
  const json& run =
      *std::ranges::find_if(map, [](const json& e) { return e["data"] == true && e["start"] > 2'000'000; });
  must_run({"qemu-io", "-f", "qcow2", "-c", "write -zu " + run["start"].dump() + " 64k", image});
  must_run({"qemu-io", "-f", "raw", "-c", "write -z " + run["start"].dump() + " 64k", raw});
  poke(block + run["offset"].get<std::uint64_t>() / 65536 * 2 + 1, 1);
  compare(3);
  EXPECT_EQ(doppel_image({"check", "-r", "leaks", image}).status, 0);
  compare(0);
  poke(block + 2 * 6 + 1, 0);  // a cluster that somebody uses
  EXPECT_EQ(doppel_image({"check", image}).status, 2);
  EXPECT_EQ(test::run_tool({"qemu-img", "check", image}).status, 2);
  EXPECT_EQ(doppel_image({"check", "-r", "leaks", image}).status, 2);
  EXPECT_EQ(doppel_image({"check", "-r", "all", image}).status, 0);
  compare(0);
  expect_same("raw", raw, "qcow2", image);
  poke(0x10000 + 6, 0x66);  // the refcount table points nowhere
  EXPECT_EQ(doppel_image({"check", image}).status, 2);
  EXPECT_EQ(doppel_image({"check", "-r", "all", image}).status, 0);
  expect_clean(image);
  expect_same("raw", raw, "qcow2", image);
  EXPECT_EQ(doppel_image({"check", raw}).status, 1);
}

TEST_F(ImageCommand, Resizes) {
  for (const char* options : {"compat=0.10", "cluster_size=512", "extended_l2=on", "refcount_bits=64"}) {
    SCOPED_TRACE(options);
    const std::string raw = source(1'000'448);
    must_run({"qemu-img", "convert", "-O", "qcow2", "-o", options, raw, dir_ / "disk.qcow2"});
    for (const char* size : {"1000960", "+3M", "40G", "1G"}) {
      expect_success({"resize", "-q", "--shrink", dir_ / "disk.qcow2", size});
      must_run({"qemu-img", "resize", "-q", "--shrink", "-f", "raw", raw, size});
      expect_clean(dir_ / "disk.qcow2");
      expect_same("raw", raw, "qcow2", dir_ / "disk.qcow2");
    }
    for (const char* size : {"900608", "2M"}) {
      expect_success({"resize", "-q", "--shrink", dir_ / "disk.qcow2", size});
      must_run({"qemu-img", "resize", "-q", "--shrink", "-f", "raw", raw, size});
      expect_clean(dir_ / "disk.qcow2");
      expect_same("raw", raw, "qcow2", dir_ / "disk.qcow2");
    }
    expect_success({"resize", "-q", "-f", "raw", raw, "+1M"});
    EXPECT_EQ(std::filesystem::file_size(raw), (3U << 20));
  }
}

TEST_F(ImageCommand, CommitsAndRebases) {
  const std::string base = source(5'000'192, 1);
  const std::string other = source(3'000'320, 2);
  const auto make_chain = [&](const std::string& options) {
    must_run({"qemu-img", "convert", "-O", "qcow2", base, dir_ / "base.qcow2"});
    must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-b", dir_ / "base.qcow2", "-F", "qcow2", dir_ / "mid.qcow2",
              "8M"});
    must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 3 100k 200k", "-c", "write -z 1M 1M", "-c", "write -P 4 6M 10k",
              dir_ / "mid.qcow2"});
    must_run({"qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", dir_ / "mid.qcow2", "-F", "qcow2",
              dir_ / "top.qcow2", "10M"});
    must_run({"qemu-io", "-f", "qcow2", "-c", "write -P 5 1500k 200k", "-c", "write -P 6 7M 3M", dir_ / "top.qcow2"});
    must_run({"qemu-img", "convert", "-O", "raw", dir_ / "top.qcow2", dir_ / "truth.raw"});
  };
  const auto expect_truth = [&](const std::string& image) {
    expect_clean(image);
    expect_same("raw", dir_ / "truth.raw", "qcow2", image);
  };
  for (const char* options : {"compat=1.1", "compat=0.10", "extended_l2=on"}) {
    SCOPED_TRACE(options);
    make_chain(options);
    expect_success({"commit", "-q", dir_ / "top.qcow2"});
    expect_truth(dir_ / "mid.qcow2");
    expect_truth(dir_ / "top.qcow2");
    EXPECT_EQ(json::parse(doppel_image({"check", "--json", dir_ / "top.qcow2"}).output)["allocated-clusters"], 0);

    make_chain(options);
    expect_success({"commit", "-q", "-b", dir_ / "base.qcow2", dir_ / "top.qcow2"});
    expect_truth(dir_ / "base.qcow2");

    make_chain(options);
    expect_success({"rebase", "-q", "-b", dir_ / "base.qcow2", "-F", "qcow2", dir_ / "top.qcow2"});
    expect_truth(dir_ / "top.qcow2");
    expect_success({"rebase", "-q", "-b", other, "-F", "raw", dir_ / "top.qcow2"});
    expect_truth(dir_ / "top.qcow2");
    expect_success({"rebase", "-q", "-b", "", dir_ / "top.qcow2"});
    EXPECT_FALSE(
        json::parse(must_run({"qemu-img", "info", "--output=json", dir_ / "top.qcow2"})).contains("backing-filename"));
    expect_truth(dir_ / "top.qcow2");
  }
  make_chain("compat=1.1");
  std::filesystem::rename(dir_ / "mid.qcow2", dir_ / "moved.qcow2");
  EXPECT_THAT(doppel_image({"convert", dir_ / "top.qcow2", dir_ / "x"}).errors, HasSubstr("backing file of"));
  expect_success({"rebase", "-q", "-u", "-b", "moved.qcow2", "-F", "qcow2", dir_ / "top.qcow2"});
  expect_truth(dir_ / "top.qcow2");
  const json chain = json::parse(doppel_image({"info", "--json", "--backing-chain", dir_ / "top.qcow2"}).output);
  EXPECT_EQ(chain.size(), 3U);
}

TEST_F(ImageCommand, ImagesInUseAreLeftAlone) {
  must_run({"qemu-img", "create", "-q", "-f", "qcow2", dir_ / "disk", "1M"});
  // qemu-io holds the image while it waits for its standard input. Its prompt says so; asking for the lock instead
  // could take it away from qemu-io.
  const std::string prompt = dir_ / "prompt";
  std::FILE* const holder = ::popen(("exec qemu-io -f qcow2 " + (dir_ / "disk") + " >" + prompt).c_str(), "w");
  ASSERT_NE(holder, nullptr);
  std::error_code not_there_yet;
  while (std::filesystem::file_size(prompt, not_there_yet) == 0 || not_there_yet) std::this_thread::yield();
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"info", dir_ / "disk"},
                                             {"resize", dir_ / "disk", "2M"},
                                             {"create", "-f", "qcow2", dir_ / "disk", "1M"},
                                             {"check", "-r", "all", dir_ / "disk"}}) {
    const Finished done = doppel_image(arguments);
    EXPECT_EQ(done.status, 1);
    EXPECT_THAT(done.errors, testing::ContainsRegex("is in use: another program \\(process [0-9]+, qemu-io\\)"));
  }
  EXPECT_EQ(doppel_image({"info", "-U", dir_ / "disk"}).status, 0);
  ::pclose(holder);
  EXPECT_EQ(doppel_image({"info", dir_ / "disk"}).status, 0);
}

}  // namespace
}  // namespace doppel::cli
