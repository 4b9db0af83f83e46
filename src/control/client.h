#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"
#include "control/http.h"

namespace doppel::control {

/// Sends one request to a VM's control socket and waits for the answer. An answer with another status than 2xx is an
/// error with its fault_message; one that does not come in time is an error too.
Result<HttpResponse> call(const std::string& socket_path, std::string_view method, std::string_view target,
                          std::string_view body = {}, std::chrono::milliseconds patience = std::chrono::seconds(10));

}  // namespace doppel::control
