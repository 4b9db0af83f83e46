#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "control/api.h"
#include "control/fake_vm.h"
#include "control/http.h"

/// Whatever a client sends: each request is consumed, refused or waited for, and each answer is a valid one.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace doppel::control;
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  doppel::test::FakeVm vm;
  for (;;) {
    const ParsedRequest parsed = parse_request(bytes);
    if (parsed.status == ParsedRequest::Status::Incomplete) break;
    const bool complete = parsed.status == ParsedRequest::Status::Complete;
    HttpResponse response = complete ? answer(parsed.request, vm) : parsed.refusal;
    if (response.later) {
      const auto later = response.later;
      later([&response](const HttpResponse& answer) { response = answer; });
      if (response.later) continue;  // one that never comes
    }
    if (!parse_response(format_response(response, false))) std::abort();
    if (!complete) break;
    if (parsed.consumed == 0 || parsed.consumed > bytes.size()) std::abort();
    bytes.remove_prefix(parsed.consumed);
  }
  return 0;
}
