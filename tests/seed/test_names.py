"""The seed names 70 tests; these and no others are here, and all of them run."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

SECTIONS = {
    "test_contract": """
        test_contract_completions_request_format
        test_contract_completions_response_format
        test_contract_completions_streaming_format
        test_contract_models_response_format
        test_contract_error_400_format
        test_contract_error_404_format
        test_contract_error_502_format
        test_contract_error_503_format
    """,
    "test_types": """
        test_chat_message_deserialize_text
        test_chat_message_deserialize_multimodal
        test_chat_request_deserialize_minimal
        test_chat_request_deserialize_full
        test_chat_request_stream_default_false
        test_chat_response_serialize
        test_chat_chunk_serialize
        test_usage_serialize
    """,
    "test_errors": """
        test_api_error_serialize_400
        test_api_error_serialize_404
        test_api_error_serialize_502
        test_api_error_into_response
    """,
    "test_app": """
        test_app_state_creation
        test_router_has_completions_route
        test_router_has_models_route
        test_router_has_health_route
        test_router_returns_404_unknown
    """,
    "test_health": """
        test_health_all_healthy
        test_health_some_unhealthy
        test_health_none_healthy
        test_health_includes_backend_counts
        test_health_includes_model_count
    """,
    "test_models": """
        test_models_empty_registry
        test_models_single_backend
        test_models_multiple_backends_deduplicated
        test_models_excludes_unhealthy
        test_models_includes_capabilities
        test_models_format_matches_openai
    """,
    "test_completions": """
        test_completions_valid_request
        test_completions_invalid_json
        test_completions_model_not_found
        test_completions_no_healthy_backends
        test_completions_backend_timeout
        test_completions_backend_error
        test_completions_forwards_auth_header
        test_completions_passes_usage_stats
        test_completions_retry_on_failure
        test_completions_tracks_pending_requests
    """,
    "test_streaming": """
        test_streaming_returns_sse
        test_streaming_sends_chunks
        test_streaming_done_message
        test_streaming_chunk_format
        test_streaming_forwards_immediately
        test_streaming_backend_error_mid_stream
        test_streaming_model_not_found
        test_streaming_client_disconnect
    """,
    "test_edge_cases": """
        test_completions_payload_too_large
        test_completions_all_retries_fail
        test_completions_long_model_name
        test_completions_backend_invalid_json
        test_streaming_backend_format_transform
        test_streaming_backend_invalid_sse
    """,
    "test_serve": """
        test_serve_starts_api_server
        test_serve_with_config_timeout
        test_serve_graceful_shutdown
        test_serve_rejects_after_shutdown
        test_serve_shutdown_timeout
    """,
    "test_concurrency": """
        test_concurrent_100_requests
        test_concurrent_mixed_streaming
        test_connection_pooling
    """,
    "test_performance": """
        test_response_time_under_5ms
        test_memory_overhead_under_10mb
    """,
}


def test_exactly_the_seed_tests_are_here() -> None:
    """Every file holds the tests of its section under the seed's names, each once: 70 in all."""
    named = {section: names.split() for section, names in SECTIONS.items()}
    assert sum(len(names) for names in named.values()) == 70
    folder = Path(__file__).parent
    written = {
        file.stem: [
            node.name
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
        ]
        for file in folder.glob("test_*.py")
        if file != Path(__file__)
    }
    assert written.keys() == named.keys()
    for section, names in named.items():
        assert Counter(written[section]) == Counter(names), section
