"""How each part of a request is written for the API that a deployment is asked through.

draft                                        what the steps of `requests.prepare` share
messages, tools, structured_output           the parts of a request
thinking, sampling                           how the model is to answer
json_schemas, openai_responses               schemas as providers take them; the format of the Responses API
"""
